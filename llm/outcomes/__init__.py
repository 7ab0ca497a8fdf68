"""Outcomes of a real model, its prefix tree grown until what is unseen cannot matter (T15)."""
