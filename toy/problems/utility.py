"""A utility f of the success rate P = E_pi[r] in the toy: its slope multiplies the task reward.

J = w_r f(P) + ... has the gradient of w_r f'(P) r (THEORY T18), so every flow of the toy stays one of a pseudo-reward,
with a weight that moves with the policy. P is that of the policy itself, which the toy knows exactly.

Axis letters: P prompts, n outcomes of a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jax import Array

from sharpen.objective import Objective, functional
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.optima import utilities
from sharpen.theory.optima.optimum import optimum


def success_slope(name: str, pi: Array, reward: Array) -> Array:
    """Return f'(P) of each prompt, shape [P, 1]; a success rate that rounds to 1 counts as the number below it.

    So the slope of ``arcsin``, which has no bound, is at most 10^8 in double precision: it moves a policy that is
    certain to every digit, and stays a number.

    Args:
        name: Of the utility.
        pi: Probabilities, shape [P, n].
        reward: 0 and 1, shape [P, n].
    """
    success = jnp.sum(pi * reward, axis=-1, keepdims=True)
    digits = jnp.finfo(success.dtype)
    least = float(digits.tiny) ** 0.25  # the square of the slope there, and its cube, are numbers too
    return functional.utility(name).slope(jnp.clip(success, least, 1.0 - digits.epsneg))


def end_slopes(objective: Objective, problems: Iterable[Problem]) -> FloatArray:
    """Return f'(P) where the flow from each prompt's base ends, shape [P]: 1 for the identity, infinite at certainty.

    It is what makes the end the Gibbs policy of a pseudo-reward.

    Raises:
        InputError: the utility has no meaning there (rewards other than 0 and 1, a moving reference, ...).
    """
    if objective.utility == "identity":
        return np.ones(len(list(problems)))
    return np.array([_end_slope(objective, problem) for problem in problems])


def _end_slope(objective: Objective, problem: Problem) -> float:
    right = problem.reward == 1.0
    utilities.untilted(objective.model_copy(update={"mode": "sampling"}), problem)  # rewards and reference fit
    end = optimum(objective, problem).log_probabilities
    x = math.inf if not np.any(end[~right] > -np.inf) else utilities.log_odds(end, right)
    return math.inf if x == math.inf else utilities.slope_at(objective.utility)(x)


def restoring_rate(objective: Objective, problem: Problem) -> float:
    """Return how fast the natural-gradient flow returns to its end: w_h, or w_h - w_r f''(P) P (1 - P) if that is more.

    A natural step of more than two over it jumps over the end, further each time.

    Raises:
        InputError: as :func:`end_slopes`.
    """
    w = objective.coefficients
    if objective.utility == "identity" or w.w_h == 0.0:
        return w.w_h
    right = problem.reward == 1.0
    end = optimum(objective, problem).log_probabilities
    if not np.any(end[~right] > -np.inf):
        return w.w_h
    return max(w.w_h, w.w_h - w.w_r * utilities.bend_at(objective.utility, utilities.log_odds(end, right)))
