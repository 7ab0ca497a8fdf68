"""Stationary points of the natural-gradient flow with a utility of the success rate, and entropy.

On a support S with right and wrong outcomes the flow rests where `sharpen.theory.optima.utilities` has a solution for
the problem restricted to S. There A_i = w_r f'(P) r_i + ... - w_h log pi_i, whose linearisation on vectors that sum
to zero is -w_h and, in the one direction pi_i (r_i - P) that moves P, w_r f''(P) P (1 - P) more. Towards an outcome
outside S the growth rate is infinite, because of the entropy.

On a support of right outcomes only P = 1, on one of wrong ones P = 0. All r are equal there, so the flow rests at the
untilted policy with all eigenvalues -w_h inside. Outside, the entropy's rate is +inf like log(1 / pi_j). For arcsin
that of the utility, f'(P) = (P (1 - P))^(-1/2), is faster: a right set keeps wrong outcomes out, whatever the KL's
weight, so the set of all right ones is stable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core import backend
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.optima import utilities

Point = tuple[FloatArray, FloatArray]


def points(objective: Objective, problem: Problem, limit: int) -> list[Point]:
    """Return log pi, shape [n], and the eigenvalues, shape [m - 1], of every stationary point.

    Args:
        objective: In mode ``sampling`` with a frozen reference.
        problem: n outcomes, m of them in the base's support, right and wrong ones.
        limit: Most supports.

    Raises:
        InputError: the objective or problem is another, or there are more supports.
    """
    level = utilities.untilted(objective, problem)
    places = np.flatnonzero(problem.support)
    if 2**places.size - 1 > limit:
        raise InputError("limit", limit, f"at least {2**places.size - 1}: with a utility every support is solved")
    found: list[Point] = []
    for code in range(1, 2**places.size):
        members = np.zeros(problem.n, dtype=bool)
        members[places[[bool(code >> i & 1) for i in range(places.size)]]] = True
        found += _on(objective, problem, level, members)
    return found


def _on(objective: Objective, problem: Problem, level: FloatArray, members: NDArray[np.bool_]) -> list[Point]:
    """Return the points whose support is in the mask."""
    w, right = objective.coefficients, problem.reward == 1.0
    size, others = int(members.sum()), problem.support & ~members
    inside = np.full(size - 1, -w.w_h)
    law = backend.condition(level, members)
    if not np.any(members & right) or np.all(right[members]):
        outside = np.full(int(others.sum()), np.inf)
        if objective.utility == "arcsin" and right[members][0]:
            outside[~right[others]] = -np.inf
        return [(law, np.concatenate([inside, outside]))]
    start = utilities.log_odds(np.where(members, level, -np.inf), right)
    found: list[Point] = []
    for x, _ in utilities.roots(objective.utility, start, w.w_r / w.w_h):
        own = inside.copy()
        own[0] += w.w_r * utilities.bend_at(objective.utility, x)
        found.append((backend.gibbs(law + (x - start) * right), np.concatenate([own, np.full(others.sum(), np.inf)])))
    return found
