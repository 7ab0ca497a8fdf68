"""The loop, the run around it, its checkpoints and its final evaluation."""
