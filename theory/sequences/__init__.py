"""Sequence models with a stop token: what p^alpha does to length, and what likelihood alone prefers."""
