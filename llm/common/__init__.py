"""Small things that every room uses: interrupts, JSON lines, finite numbers, lines for the user."""
