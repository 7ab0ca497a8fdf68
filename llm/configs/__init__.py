"""Settings of runs, their recipes, and which of them have an effect."""
