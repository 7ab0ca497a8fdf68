"""Learners that make advantages of how many samples of a group are right, and so need a task reward; one file each."""
