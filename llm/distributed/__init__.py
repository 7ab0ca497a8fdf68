"""Processes that train together, how weights are divided, and what that takes."""
