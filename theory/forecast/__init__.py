"""What sharpening would do to a policy, told from its own samples before anything is trained (T21)."""
