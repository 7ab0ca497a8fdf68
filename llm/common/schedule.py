"""Which prompts a step trains on, and with which seed, as pure functions of the step: a resumed run repeats them."""

from __future__ import annotations

import numpy as np

ROLLOUT, EVALUATION, ALPHA, SELECTION = 0, 1, 2, 3  # what a seed is for, so that no two uses share a stream


def prompt_indices(prompts: int, per_step: int, step: int, seed: int) -> list[int]:
    """Return the prompts of a step: epochs of shuffled prompts, cut into steps without dropping any.

    Args:
        prompts: Number of prompts in the training set.
        per_step: Prompts a step.
        step: 0 is the first.
        seed: The run's seed; each epoch's order depends on it and on the epoch.

    Example:
        >>> sorted(prompt_indices(4, 2, 0, seed=0) + prompt_indices(4, 2, 1, seed=0))
        [0, 1, 2, 3]
    """
    places = range(step * per_step, (step + 1) * per_step)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(prompts) for epoch in {p // prompts for p in places}
    }
    return [int(orders[place // prompts][place % prompts]) for place in places]


def derive_seed(seed: int, purpose: int, step: int) -> int:
    """Return a 31-bit seed for one use in one step, statistically independent of every other."""
    return int(np.random.SeedSequence([seed, purpose, step]).generate_state(1)[0] >> 1)
