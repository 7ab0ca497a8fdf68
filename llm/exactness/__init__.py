"""Is a sampler exact for p^alpha? A model small enough to enumerate, and a sampler's draws from it."""
