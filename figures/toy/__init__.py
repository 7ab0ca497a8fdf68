"""Figures of simulated dynamics."""
