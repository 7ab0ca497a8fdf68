"""What an objective converges to: optima, frontiers, responses, coverage and what they cost."""
