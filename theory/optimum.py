"""The optimum of the objective on a finite problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.advantage import advantage_line
from sharpen.theory.flow import log_limit
from sharpen.theory.problem import FloatArray, Problem


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where training from the base ends if it follows the natural gradient exactly.

    Attributes:
        support: Indices of the outcomes that keep probability, ascending.
        probabilities: The policy, shape [n]; entries of the support may underflow to 0.
        value: J there.
        expected_reward: E[r] there.
        unique: Whether the flow from every policy with the base's support ends here.
    """

    support: tuple[int, ...]
    probabilities: FloatArray
    value: float
    expected_reward: float
    unique: bool


def optimum(objective: Objective, problem: Problem) -> Optimum:
    """Return the optimum that natural-gradient training reaches from the base.

    With entropy it is the Gibbs policy, pi* proportional to exp(u / w_h), which maximises J over the base's support.
    Without, J is maximal on the whole face arg max u, and the policy returned is the base conditioned on that face.

    Outcomes of base probability 0 are excluded, with every objective: training starts at the base, and gradient flows
    never leave its support.

    A moving reference (``policy``, ``refresh:K``) has no fixed J to maximise. The policy returned is then the end of
    the flow from the base (see :func:`sharpen.theory.flow.limit`), and the value is J with p set to that policy.

    Raises:
        InputError: the potential is not finite on the base's support (weights that overflow), or the end of the flow
            cannot be decided.

    Example:
        >>> from sharpen.objective import preset
        >>> optimum(preset("tempered", alpha=2), Problem([0.5, 0.25, 0.25], [0, 1, 0])).probabilities.round(4).tolist()
        [0.6667, 0.1667, 0.1667]
    """
    log_policy = log_limit(objective, problem, problem.base)
    probabilities = np.exp(log_policy)
    kept = np.flatnonzero(log_policy > -np.inf)
    sign = advantage_line(objective, problem, problem.support).sign
    return Optimum(
        support=tuple(kept.tolist()),
        probabilities=probabilities,
        value=float(policy_value(objective, problem, log_policy)),
        expected_reward=problem.expected_reward(probabilities),
        unique=sign > 0 or problem.support.sum() == 1 or (sign == 0 and kept.size == 1),
    )


def policy_value(objective: Objective, problem: Problem, log_policy: FloatArray) -> FloatArray:
    """Return J of policies given as log-probabilities, shape [..., n] to [...]; a moving reference is the policy."""
    moving = objective.refresh_every is not None
    with np.errstate(invalid="ignore", over="ignore"):  # outside the policy's support, where nothing is read
        return objective.value(
            policy_logprob=log_policy,
            reward=problem.reward,
            ref_logprob=log_policy if moving else problem.log_base,
            length=problem.length,
        )
