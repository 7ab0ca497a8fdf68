"""A finite problem, the pseudo-reward on it, and its gradient flows."""
