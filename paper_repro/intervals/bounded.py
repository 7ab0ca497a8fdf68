"""Intervals over seeds and problems that stay within what can be, and p-values that the design can support.

Axis letters: S seeds, P problems. Seeds and problems are crossed, x_sp = mu + a_s + b_p + e_sp, and both are samples.
The standard error comes from the two-way analysis of variance, as in :func:`stats.hierarchical_interval`, but
Student's t has at most S - 1 degrees of freedom: S seeds tell no more than that of what another seed would do. The
interval is made on a scale g without bounds and taken back: log((x - low)/(high - x)) between two bounds, the logarithm
of the distance from a single one. ``benchmarks/paper_statistics.py`` counts how often it covers the truth at the sizes
of the studies.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sharpen.paper_repro.intervals.stats import CONFIDENCE, Interval, standard_error

Bounds = tuple[float, float]
UNIT: Bounds = (0.0, 1.0)
POSITIVE: Bounds = (0.0, math.inf)
NEGATIVE: Bounds = (-math.inf, 0.0)
LINE: Bounds = (-math.inf, math.inf)
NEAR = 2.0  # standard errors from a bound within which g is too curved for the delta method: the t-interval, cut there


def bounds_of(measure: str) -> Bounds:
    """Return between which ends a measure lies.

    Example:
        >>> bounds_of("pass@16"), bounds_of("response_length"), bounds_of("base_logprob"), bounds_of("alpha_own")
        ((0.0, 1.0), (0.0, inf), (-inf, 0.0), (-inf, inf))
    """
    if measure.startswith(("pass", "maj", "forecast")) or measure in ("finished", "answered", "greedy", "auc"):
        return UNIT
    if measure in ("response_length", "distinct", "entropy", "kl_base", "answer_entropy") or measure.startswith("ess"):
        return POSITIVE
    return NEGATIVE if measure in ("logprob", "base_logprob") else LINE


def of_difference(bounds: Bounds) -> Bounds:
    """Return the bounds of a difference of two such numbers."""
    return bounds[0] - bounds[1], bounds[1] - bounds[0]


def floor_of(seeds: int) -> float:
    """Return 2/2^S, the least two-sided p-value of S seeds whose differences may turn their signs; 1 for one seed.

    Example:
        >>> floor_of(8), floor_of(3), floor_of(1)
        (0.0078125, 0.25, 1.0)
    """
    return min(1.0, 2.0 ** (1 - seeds))


def bounded_interval(x_SP: ArrayLike, bounds: Bounds = LINE, null: float = 0.0) -> Interval:
    """Return the mean over seeds and problems with a 95 % interval within the bounds.

    Args:
        x_SP: One number a seed and problem, shape [S, P], or [P] for a single seed; S P > 1.
        bounds: What the true mean lies between. A mean of samples beyond an end, as of a KL near 0, counts as that end.
        null: The mean that ``p`` is about; ``p`` is two-sided and not below :func:`floor_of` the seeds.

    Raises:
        ValueError: there is a single number, or one that is not finite.

    Example:
        >>> found = bounded_interval([[0.9, 1.0, 1.0], [1.0, 1.0, 0.8], [0.9, 0.8, 1.0]], UNIT)
        >>> 0 < found.low < found.mean < found.high < 1
        True
    """
    from scipy.stats import beta, t

    x = np.atleast_2d(np.asarray(x_SP, dtype=float))
    mean, error, freedom = standard_error(x)
    S, P = x.shape
    freedom = max(1.0, min(freedom, float(S - 1) if S > 1 else freedom))
    low, high = bounds
    mean = min(max(mean, low), high)
    if error <= 1e-9 * max(1.0, abs(mean)):
        if low < mean < high or not (math.isfinite(low) and math.isfinite(high)):
            return Interval(mean, mean, mean, floor_of(S) if mean != null else 1.0, freedom)
        far = float(beta.ppf(0.5 + CONFIDENCE / 2, 0.5, max(S, P) + 0.5)) * (high - low)  # Jeffreys, all at one end
        ends = (mean, mean + far) if mean <= low else (mean - far, mean)
        return Interval(mean, *ends, floor_of(S) if not ends[0] <= null <= ends[1] else 1.0, freedom)
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, freedom))
    p = max(floor_of(S), float(2 * t.sf(abs(mean - null) / error, freedom)))
    if min(mean - low, high - mean) <= NEAR * error:
        return Interval(mean, max(low, mean - quantile * error), min(high, mean + quantile * error), p, freedom)
    half = quantile * error * _slope(mean, bounds)
    return Interval(mean, _back(mean, -half, bounds), _back(mean, half, bounds), p, freedom)


def _slope(mean: float, bounds: Bounds) -> float:
    """Return g'(mean)."""
    return sum(1.0 / abs(mean - end) for end in bounds if math.isfinite(end)) or 1.0


def _back(mean: float, step: float, bounds: Bounds) -> float:
    """Return g^-1(g(mean) + step)."""
    low, high = bounds
    if math.isfinite(low) and math.isfinite(high):
        odds = (mean - low) / (high - mean) * math.exp(max(-700.0, min(700.0, step)))
        return low + (high - low) * odds / (1.0 + odds)
    if math.isfinite(low):
        return low + (mean - low) * math.exp(min(700.0, step))
    return high - (high - mean) * math.exp(min(700.0, -step)) if math.isfinite(high) else mean + step
