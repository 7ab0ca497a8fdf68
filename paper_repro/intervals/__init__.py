"""Intervals and tests over seeds and problems."""
