"""The forward and backward passes of a training step."""
