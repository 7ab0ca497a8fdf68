"""Theorems on what an optimiser makes of an objective's gradient: mean squares, steps of one size."""
