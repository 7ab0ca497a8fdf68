"""The learners that are built in, one file each; ``llm/learners/parts/registry.py`` has a line for each."""
