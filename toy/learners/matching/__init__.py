"""Sampled learners that match the policy to the objective's target, pi* = exp(u / w_h) / Z: one file each."""
