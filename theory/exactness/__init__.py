"""Whether draws follow a law that is known exactly, and how many it takes to tell."""
