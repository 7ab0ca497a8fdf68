"""Sums whose answers have a stated law: how likelihood goes with correctness is set, whatever the length."""
