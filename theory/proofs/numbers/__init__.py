"""The numerical side of theorems whose proof has one."""
