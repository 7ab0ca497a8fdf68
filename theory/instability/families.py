"""The stationary points of the natural-gradient flow as a few families, without listing any.

With A_i = a_i - c_i log pi_i on the base's m outcomes (`sharpen.theory.instability.stationary`):

- c > 0 or c < 0: one point for each non-empty support, C(m, s) of size s. Within the support the s - 1 eigenvalues are
  those of -P C P, P the projector off sqrt(pi), so they lie in [-max c, -min c] (and are -c for equal c); towards each
  of the m - s other outcomes the eigenvalue is +inf for c > 0 and -inf for c < 0. So the class depends on s alone.
- c = 0: one point, or face of points, for each group of equal a: 0 within it, a_j - a_S towards outcome j. So the class
  depends on whether the group is the highest, the lowest, or between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.advantage import AdvantageLine, advantage_line
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import tie_groups
from sharpen.theory.instability.points import CLASSES


@dataclass(frozen=True)
class StationaryFamily:
    """Stationary points of one class.

    Attributes:
        kind: ``stable``, ``neutral``, ``saddle`` or ``unstable``.
        count: How many points, or faces of points, exactly.
        smallest: Outcomes in the smallest support.
        largest: Outcomes in the largest support.
        inside: Least and largest eigenvalue within a support; None where all supports are single outcomes.
        across: Least and largest eigenvalue towards an outcome outside; None if there is none outside.
        continuum: Whether at least one stands for a face of stationary points.
    """

    kind: str
    count: int
    smallest: int
    largest: int
    inside: tuple[float, float] | None
    across: tuple[float, float] | None
    continuum: bool


def stationary_families(objective: Objective, problem: Problem) -> Rows[StationaryFamily]:
    """Return every stationary point of the flow on the base's support as at most three families, stable ones first.

    Args:
        objective: The objective; ``reference = refresh:K`` is answered as ``policy``.
        problem: n outcomes, m of them with base probability above 0.

    Raises:
        InputError: the potential is not finite on the base's support, or the objective has a utility, which makes A
            another line at every policy.

    Example:
        >>> from sharpen.objective import preset
        >>> from sharpen.theory.core.problem import parse_problem
        >>> found = stationary_families(preset("tempered", reference="policy"), parse_problem("uniform:100"))
        >>> [(family.kind, family.smallest, family.largest) for family in found]
        [('stable', 1, 1), ('saddle', 2, 99), ('unstable', 100, 100)]
    """
    line = advantage_line(objective, problem, problem.support)
    m = line.constant.size
    found = _by_level(line) if line.sign == 0 else _by_size(line.slope, line.sign, m)
    return Rows(sorted(found, key=lambda family: CLASSES.index(family.kind)))


def _by_size(slope: FloatArray, sign: int, m: int) -> list[StationaryFamily]:
    inside = (-float(slope.max()), -float(slope.min()))
    across = (sign * np.inf, sign * np.inf)
    if m == 1:
        return [StationaryFamily("stable", 1, 1, 1, None, None, False)]
    vertices, full = ("unstable", "stable") if sign > 0 else ("stable", "unstable")
    found = [
        StationaryFamily(vertices, m, 1, 1, None, across, False),
        StationaryFamily(full, 1, m, m, inside, None, False),
    ]
    if m > 2:
        found.append(StationaryFamily("saddle", 2**m - m - 2, 2, m - 1, inside, across, False))
    return found


def _by_level(line: AdvantageLine) -> list[StationaryFamily]:
    constant = line.constant
    order, starts = tie_groups(constant, line.scale)
    sizes = np.diff(np.append(starts, constant.size))
    level = constant[order[starts]]  # falling
    count = level.size
    top = "stable" if sizes[0] == 1 else "neutral"
    places = [(top, slice(0, 1))]
    if count > 1:
        places.append(("unstable", slice(count - 1, count)))
    if count > 2:
        places.append(("saddle", slice(1, count - 1)))
    found = []
    for kind, group in places:
        size, here = sizes[group], level[group]
        across = None if count == 1 else _range_across(level, here, group)
        wide = bool(np.any(size > 1))
        found.append(
            StationaryFamily(
                kind, size.size, int(size.min()), int(size.max()), (0.0, 0.0) if wide else None, across, wide
            )
        )
    return found


def _range_across(level: FloatArray, here: FloatArray, group: slice) -> tuple[float, float]:
    """Return the least and largest a_j - a_S over the family's groups S and the outcomes j outside each."""
    lowest = level[-1] if group.stop < level.size else level[-2]
    highest = level[0] if group.start > 0 else level[1]
    return float(lowest - here.max()), float(highest - here.min())
