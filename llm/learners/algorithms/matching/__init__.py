"""Learners that match the policy to the objective's optimum pi* ~ exp(u / w_h), by its ratio to it; one file each."""
