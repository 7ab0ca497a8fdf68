"""Expectation, bias and variance of learners' updates, by enumeration of their samples."""
