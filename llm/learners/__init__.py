"""Advantages, losses and the experience that they are computed on."""
