"""Parts of one's own for sharpen: one module a door."""
