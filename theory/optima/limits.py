"""Where the optimum goes as alpha or beta_inv grows without bound, or both return to the base."""

from __future__ import annotations

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core import backend
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, reward_scale, top_face
from sharpen.theory.optima.response import entropic_family


def limits(objective: Objective, problem: Problem) -> dict[str, FloatArray]:
    """Return the limits of the optimum with entropy, log-probabilities of shape [n].

    - ``beta_inv``: beta_inv to infinity, p exp((alpha - 1) s) conditioned on arg max r; p^alpha there without lengths.
    - ``alpha``: alpha to infinity, p exp(-s + beta_inv r) conditioned on arg max s; without lengths and reward uniform
      on arg max p.
    - ``base``: alpha to 1 and beta_inv to 0, p; not with an exponent of right answers, which leaves p.

    Each is exp(offset) conditioned on the highest slope of the family in that parameter.

    Args:
        objective: In mode ``sampling`` with a frozen reference.
        problem: n outcomes.

    Raises:
        InputError: the objective has no entropy or a moving reference.

    Example:
        >>> found = limits(Objective(alpha=2.0), Problem([0.5, 0.25, 0.25], [0, 1, 1]))
        >>> [np.exp(log_policy).round(3).tolist() for log_policy in found.values()]
        [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]
    """
    found = {}
    for over in ("beta_inv", "alpha"):
        members = entropic_family(objective, problem, over)
        slope = np.where(problem.support, members.slope, -np.inf)
        # The slope is the reward for beta_inv and made of log p for alpha.
        face = top_face(slope, (reward_scale if over == "beta_inv" else own_scale)(members.slope))
        found[over] = backend.condition(members.offset + members.slope, face)  # the slope is constant on the face
    return found if objective.alpha_right is not None else {**found, "base": problem.log_base}
