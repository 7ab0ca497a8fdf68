"""Every result of docs/theory.md, stated, derived from the objective and checked."""
