"""One simulation: its settings, its run folder, its live view."""
