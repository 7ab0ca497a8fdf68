"""Every stationary point and its class, phase diagrams, and references that move."""
