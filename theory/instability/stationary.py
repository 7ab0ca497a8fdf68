"""Every stationary point of the natural-gradient flow on a finite problem, with its eigenvalues and its class.

With A_i = a_i - c_i log pi_i (`sharpen.theory.core.advantage`) the flow d pi_i / dt = pi_i (A_i - E_pi A) rests where A
is constant on the support S of pi.

- c of one sign: exactly one such point for each non-empty S, so 2^m - 1 on a base with m outcomes. Inside the face the
  linearisation is -C + pi c^T with C = diag(c) (for equal c: -c, |S| - 1 times). Towards an outcome outside S the
  growth rate of log pi_j is A_j - E A, whose -c_j log pi_j is infinite: +inf for c > 0 (entropy), -inf for c < 0.
- c = 0: A does not depend on pi, and S must lie in one group of equal a. A group of one is a vertex, a larger group a
  face of stationary points (its sub-faces with it), represented by the base conditioned on it. Eigenvalues: 0 inside,
  |S| - 1 times, and a_j - a_S towards j.

The self-sharpening map pi -> pi^alpha / Z has the same fixed points as the flow of ``reference = policy`` with alpha in
mode sampling, and Jacobian alpha on the face where the flow has the eigenvalue alpha - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.advantage import AdvantageLine, advantage_line, interior_point
from sharpen.theory.core.backend import condition
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import ties
from sharpen.theory.instability.points import CLASSES, FixedPoint, LazyPoints, SupportPoints, classify, eigenvalues
from sharpen.theory.instability.utility_points import UtilityPoints
from sharpen.theory.optima.optimum import optimum, policy_value

if TYPE_CHECKING:
    from pandas import DataFrame

DEFAULT_LIMIT = 4096
MAX_NUMBERS = 10**6  # points times outcomes: what is listed stays readable, and below about 30 MB of JSON
MOST_OUTCOMES = 20  # whose supports are all listed if the limit allows: a million of them take seconds


@dataclass(frozen=True)
class FixedPoints:
    """The listed stationary points, how many there are, and whether all of them are listed.

    Where there is a point for every support and all are listed, ``points`` is a sequence that makes each when it is
    read (:class:`sharpen.theory.instability.points.LazyPoints`).
    """

    points: Rows[FixedPoint] | LazyPoints
    total: int
    complete: bool

    def frame(self) -> DataFrame:
        """Return one row per point: support, kind, continuum, value, expected_reward, its extreme eigenvalues."""
        return self.points.frame()


def fixed_points(objective: Objective, problem: Problem, limit: int = DEFAULT_LIMIT) -> FixedPoints:
    """Return every stationary point of the flow on the base's support, stable ones first, then by falling value.

    When there are more than ``limit`` points, or points times outcomes exceed 10^6 numbers and it is not all supports
    of at most 20 outcomes that are wanted (``limit=2**20``), some are listed: first the
    optimum (see :func:`sharpen.theory.optima.optimum.optimum`), then the point with full support, then vertices by
    falling a_i (the potential, or the reward with a moving reference; equal ones by falling base probability). With a
    utility of the success rate see :mod:`sharpen.theory.instability.utility_points`. ``total`` counts all of them all
    the same, exactly.

    Args:
        objective: The objective; ``reference = refresh:K`` is answered as ``policy``.
        problem: n outcomes, m of them with base probability above 0.
        limit: Most points to list, at least 1.

    Raises:
        InputError: the limit is below 1; with a utility of the success rate, which needs entropy, the limit is below
            the number of supports, or these are of more than 20 outcomes; the potential is not finite on the base's
            support; or there are more than 1000 distinct lengths in a moving, length-normalised reference.

    Example:
        >>> from sharpen.objective import preset
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = fixed_points(preset("tempered"), DEFAULT_PROBLEM)
        >>> found.total, found.points[0].kind, len(found.points[0].support)
        (31, 'stable', 5)
    """
    if limit < 1:
        raise InputError("limit", limit, "a whole number >= 1")
    room = min(limit, max(MAX_NUMBERS // problem.n, 1))
    if objective.utility != "identity":
        return _with_a_utility(objective, problem, limit)
    line = advantage_line(objective, problem, problem.support)
    total, m = 2**line.constant.size - 1, line.constant.size
    if line.sign != 0 and total <= limit and (total <= room or m <= MOST_OUTCOMES):
        return FixedPoints(SupportPoints(problem, line), total, True)
    solve = _faces if line.sign == 0 else _interior_points
    total, points = solve(objective, problem, line, room)
    points.sort(key=lambda point: (CLASSES.index(point.kind), -point.value, point.support))
    return FixedPoints(Rows(points), total, total == len(points))


def _with_a_utility(objective: Objective, problem: Problem, limit: int) -> FixedPoints:
    """Return all points on all supports (a utility of the success rate)."""
    m = int(problem.support.sum())
    if 2**m - 1 > limit:
        raise InputError("limit", limit, f"at least {2**m - 1}: with a utility every support is solved")
    if m > MOST_OUTCOMES:
        allowed = f"at most {MOST_OUTCOMES} possible outcomes: with a utility every support is solved"
        raise InputError("base", f"{m} possible outcomes", allowed)
    points = UtilityPoints(objective, problem)
    return FixedPoints(points, len(points), True)


def _faces(objective: Objective, problem: Problem, line: AdvantageLine, room: int) -> tuple[int, list[FixedPoint]]:
    """Return the number of groups of equal a and the points of the first of them (c = 0)."""
    groups = ties(line.constant, line.scale)
    log_base = problem.log_base[problem.support]
    points = []
    for group in groups[:room]:
        level = line.constant[group[0]]
        members = np.zeros(line.constant.size, dtype=bool)
        members[group] = True
        growth = line.constant[~members] - level
        rates = np.concatenate([np.zeros(group.size - 1), growth])
        points.append(_point(objective, problem, condition(log_base, members), rates, continuum=group.size > 1))
    return len(groups), points


def _interior_points(
    objective: Objective, problem: Problem, line: AdvantageLine, room: int
) -> tuple[int, list[FixedPoint]]:
    """Return the number of supports and the points of a choice of ``room`` of them (c of one sign)."""
    masks = np.array(list(_chosen_supports(objective, problem, line, room)))
    log_policies = interior_point(line, masks)
    points = []
    for members, log_policy in zip(masks, log_policies, strict=True):
        found = eigenvalues(line, members, np.exp(log_policy))
        points.append(_point(objective, problem, log_policy, found, continuum=False))
    return 2**line.constant.size - 1, points


def _chosen_supports(
    objective: Objective, problem: Problem, line: AdvantageLine, room: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield at most ``room`` different supports: the optimum's, the full one, then vertices."""
    m = line.constant.size
    best = np.zeros(problem.n, dtype=bool)
    best[list(optimum(objective, problem).support)] = True
    first = best[problem.support]
    chosen = [first]
    if not first.all():
        chosen.append(np.ones(m, dtype=bool))
    order = np.lexsort((-problem.log_base[problem.support], -line.constant))
    for i in order[:room]:
        vertex = np.arange(m) == i
        if first.sum() > 1 or not first[i]:
            chosen.append(vertex)
    yield from chosen[:room]


def _point(
    objective: Objective, problem: Problem, log_policy: FloatArray, rates: FloatArray, *, continuum: bool
) -> FixedPoint:
    """Return the fixed point with these log-probabilities on the base's support, shape [m]."""
    full = np.full(problem.n, -np.inf)
    full[problem.support] = log_policy
    probabilities = np.exp(full)
    return FixedPoint(
        support=tuple(np.flatnonzero(full > -np.inf).tolist()),
        probabilities=probabilities,
        value=float(policy_value(objective, problem, full)),
        expected_reward=problem.expected_reward(probabilities),
        eigenvalues=np.sort(rates)[::-1],
        kind=classify(rates),
        continuum=continuum,
    )
