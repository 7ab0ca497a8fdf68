"""Whether an answer is right: forms, units, math-verify in processes that can be killed, votes."""
