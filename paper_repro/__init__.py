"""The paper, regenerated: declared experiments and their reports."""
