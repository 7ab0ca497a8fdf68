"""Learners that see every outcome: one file each."""
