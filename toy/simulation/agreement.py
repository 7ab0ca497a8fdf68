"""Whether a track's runs ended where the theory says: one word, by a criterion that is stated.

The distance from the limit is taken outcome by outcome (or as the mass off a face of optima). Its mean over S runs has
t-intervals that hold for all m outcomes together with 95 % (Bonferroni: each at 1 - 0.05/m). An exact learner has one
run and no interval. The words:

- ``agrees``: every interval contains the theory's number, or the difference is at most 1e-6, and no interval is wider
  than 0.1, so that it would have shown a difference worth the name;
- ``approaches``: not yet, but over the second half of the run the distance has fallen by a quarter or more (for several
  runs: the upper end of the 95 % interval of distance(end) - 3/4 distance(half) is below 0). The softmax gradient comes
  near a vertex like 1/t only, which halves it;
- ``differs``: neither;
- ``unclear``: the intervals contain the theory's numbers, but are wider than 0.1, or there is one run of a sampled
  learner.

Axis letters: K records, S runs, n outcomes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sharpen.toy.dynamics.measures import CONFIDENCE, student_t

FloatArray = NDArray[np.float64]
Word = Literal["agrees", "approaches", "differs", "unclear"]

NUMERICAL = 1e-6  # of a probability: what counts as equal without any statistics
WIDEST = 0.1  # full width of an interval that still says something
FALLEN = 0.75


def verdict(log_policy: FloatArray, target: FloatArray, face: NDArray[np.bool_] | None, *, exact: bool) -> Word:
    """Return the word for runs of one track.

    Args:
        log_policy: log pi, shape [K, S, n], records evenly spaced but perhaps for the last.
        target: The theory's limit, shape [n].
        face: Mask of a face of optima, shape [n], if the runs may end anywhere on it; then only the mass off it counts.
        exact: Whether the learner samples nothing, so that one run is all there is.

    Example:
        >>> log_pi = np.log(np.array([[[0.5, 0.5]], [[0.1, 0.9]], [[0.05, 0.95]]]))
        >>> verdict(log_pi, np.array([0.0, 1.0]), None, exact=True)
        'approaches'
    """
    end, half = (_distance(log_policy[k], target, face) for k in (-1, (len(log_policy) - 1) // 2))
    off = np.abs(end.mean(axis=0))
    if np.all(off <= NUMERICAL):
        return "agrees"
    runs = end.shape[0]
    if runs < 2:
        return "approaches" if exact and _fell(end, half, 0.0) else "differs" if exact else "unclear"
    width = _half_width(end, 1.0 - (1.0 - CONFIDENCE) / end.shape[1])
    if np.all((off <= width) | (off <= NUMERICAL)):
        return "agrees" if np.all(2.0 * width <= WIDEST) else "unclear"
    change = np.abs(end).max(axis=1) - FALLEN * np.abs(half).max(axis=1)
    return "approaches" if _fell(end, half, float(_half_width(change[:, None], CONFIDENCE)[0])) else "differs"


def _distance(log_policy: FloatArray, target: FloatArray, face: NDArray[np.bool_] | None) -> FloatArray:
    """Return how far each run is from the theory, shape [S, m]."""
    pi = np.exp(log_policy)
    return pi - target if face is None else pi[:, ~face].sum(axis=1, keepdims=True)


def _fell(end: FloatArray, half: FloatArray, slack: float) -> bool:
    """Return whether the mean over runs of the largest distance fell by a quarter, with ``slack`` to spare."""
    before, after = (np.abs(distance).max(axis=1).mean() for distance in (half, end))
    return bool(after - FALLEN * before + slack < 0.0)


def _half_width(samples: FloatArray, confidence: float) -> FloatArray:
    """Return half the t-intervals over runs of columns, shape [S, m] to [m]."""
    runs = samples.shape[0]
    return student_t(runs - 1, confidence) * samples.std(axis=0, ddof=1) / np.sqrt(runs)
