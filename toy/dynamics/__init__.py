"""Learners as pure functions, what scans them, and what is measured on the way."""
