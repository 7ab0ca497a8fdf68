"""Flags, refusals and the terminal, as every command has them."""
