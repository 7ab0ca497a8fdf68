"""Figures of exact results."""
