"""What the study consists of, and where each result is kept."""
