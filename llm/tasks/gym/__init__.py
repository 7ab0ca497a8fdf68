"""Tasks of the package reasoning-gym, an optional extra: every generator by name, and their categories."""
