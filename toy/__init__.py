"""The objective on tabular policies in JAX: exact gradient flows and sampled RLOO.

``learners`` holds the updates, ``engine`` runs and records them, ``simulate`` makes a run folder of them.
"""
