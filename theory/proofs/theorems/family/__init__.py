"""Theorems on the wider family: utilities of the success rate, exponents that depend on the reward."""
