"""Figures of every backend, in one style."""
