"""One module a family of theorems."""
