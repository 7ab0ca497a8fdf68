"""Learners: what each one is, and the door by which built-in ones and a user's come in."""
