"""How the runs of an arm end: the registered rules of collapse and of falling back, on numbers alone.

Axis letters: S seeds, C checkpoints, the base first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.paper_repro.grids.rules import Rules
from sharpen.paper_repro.intervals.bounded import bounded_interval
from sharpen.paper_repro.intervals.stats import Interval, share, worst_drawdown_to_last


def collapsed(last_S: ArrayLike, distinct_S: ArrayLike, base: float, rules: Rules) -> tuple[bool, Interval]:
    """Return whether an arm collapses, and the share of its seeds that do.

    Args:
        last_S: pass@1 of the last checkpoint.
        distinct_S: Different responses of all samples of a problem, mean over problems.
        base: pass@1 of the base model.
        rules: Thresholds.
    """
    last, distinct = np.asarray(last_S, dtype=float), np.asarray(distinct_S, dtype=float)
    gone = (last < rules.collapse_share * base) | (distinct <= rules.collapse_distinct)
    return bool(gone.mean() > rules.collapsed_seeds), share(int(gone.sum()), len(gone))


def falls(curve_SC: ArrayLike) -> NDArray[np.float64]:
    """Return how far each seed's last checkpoint lies below its best one, shape [S].

    Example:
        >>> falls([[0.4, 0.6, 0.5], [0.4, 0.5, 0.6]]).round(2).tolist()
        [0.1, 0.0]
    """
    return np.array([worst_drawdown_to_last(curve) for curve in np.asarray(curve_SC, dtype=float)])


def falls_back(arm_SC: ArrayLike, control_SC: ArrayLike, rules: Rules) -> tuple[bool, Interval]:
    """Return whether an arm falls back, and its mean fall less that of the control.

    The best of noisy checkpoints lies above the last one also where nothing changes, so the control's mean fall is
    taken off. The arm falls back if the mean over seeds exceeds ``rules.falls_back`` at one-sided p < .05.
    """
    excess = falls(arm_SC) - falls(control_SC)
    found = bounded_interval(excess[:, None], (-1.0, 1.0), null=rules.falls_back)
    above = found.mean > rules.falls_back and found.p is not None and found.p / 2 < 0.05
    return bool(above and math.isfinite(found.mean)), found
