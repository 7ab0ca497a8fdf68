"""Which models there are, how they are loaded, and the log-probabilities that they give."""
