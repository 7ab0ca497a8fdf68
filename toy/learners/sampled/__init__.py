"""Learners that see G samples of each prompt: one file each, with the loss that it minimises."""
