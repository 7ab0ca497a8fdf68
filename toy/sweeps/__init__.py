"""Grids of settings, run in batches."""
