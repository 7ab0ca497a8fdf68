"""Asking a model, keeping what it said, and summing it up with intervals."""
