"""Sampled learners that hold up the entropy: one file each."""
