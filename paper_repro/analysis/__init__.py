"""Statistics of results, and verdicts on claims."""
