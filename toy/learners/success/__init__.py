"""Sampled learners whose advantages are made of how many samples of a group are right: one file each."""
