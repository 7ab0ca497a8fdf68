"""Figures of the committed study."""
