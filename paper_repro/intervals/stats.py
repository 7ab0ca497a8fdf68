"""Statistics over seeds and problems.

Axis letters: S seeds, P problems, R resamples. Every seed is asked the same problems, so both are crossed,
x_sp = mu + a_s + b_p + e_sp, and two arms are compared by the differences at the same seed and problem.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
RESAMPLES = 4000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with its 95% interval, the two-sided p-value of a mean of zero, and the degrees of freedom.

    ``p`` is None where the interval comes from resampling.
    """

    mean: float
    low: float
    high: float
    p: float | None = None
    freedom: float | None = None


class Effect(NamedTuple):
    """Size of a paired difference over problems.

    Args:
        difference: Mean difference.
        standardized: The mean over the standard deviation of the problems' differences, with Hedges' correction for few
            problems (d_z; Hedges 1981); None if they are all equal.
        wins: Share of problems on which the first is larger, ties counted half.
    """

    difference: float
    standardized: float | None
    wins: float


def hierarchical_interval(x_SP: ArrayLike) -> Interval:
    """Return the mean over seeds and problems with an interval that counts both as samples.

    The variance of the mean is (MS_seed + MS_problem - MS_rest) / (S P) from the two-way analysis of variance, never
    less than one mean square alone would give; Student's t with Satterthwaite's degrees of freedom (1946). With one
    seed, problems alone are counted; with one problem, seeds.

    Args:
        x_SP: One number a seed and problem, shape [S, P], or [P] for a single seed; S P > 1.

    Raises:
        ValueError: there is a single number, or one that is not finite.
    """
    from scipy.stats import t

    mean, error, freedom = standard_error(x_SP)
    if error == 0.0:
        return Interval(mean, mean, mean, 1.0 if mean == 0.0 else 0.0, freedom)
    half = float(t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
    return Interval(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, freedom)), freedom)


def standard_error(x_SP: ArrayLike) -> tuple[float, float, float]:
    """Return mean, standard error and Satterthwaite's degrees of freedom of numbers, shape [S, P].

    Raises:
        ValueError: there is a single number, or one that is not finite.
    """
    x = np.atleast_2d(np.asarray(x_SP, dtype=float))
    if x.ndim != 2 or x.size < 2 or not np.isfinite(x).all():
        raise ValueError(f"x_SP: got shape {np.shape(x_SP)}, allowed: at least two finite numbers")
    squares, freedoms = mean_squares(x)
    total = squares["seed"] + squares["problem"] - squares["rest"]
    largest = max(("seed", "problem"), key=lambda name: squares[name])
    if total >= squares[largest]:
        parts = [(squares[name], freedoms[name]) for name in squares]
        freedom = total**2 / max(sum(m * m / f for m, f in parts if f), 1e-300) if total > 0 else 1.0
    else:
        total, freedom = squares[largest], float(freedoms[largest])
    return float(x.mean()), math.sqrt(total / x.size), freedom


def mean_squares(x: FloatArray) -> tuple[dict[str, float], dict[str, int]]:
    """Return the mean squares of ``seed``, ``problem`` and ``rest`` of numbers, shape [S, P], and their freedoms."""
    S, P = x.shape
    freedoms = {"seed": S - 1, "problem": P - 1, "rest": (S - 1) * (P - 1)}
    grand = x.mean()
    by_seed, by_problem = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    sums = {
        "seed": P * float(((by_seed - grand) ** 2).sum()),
        "problem": S * float(((by_problem - grand) ** 2).sum()),
        "rest": float(((x - by_seed - by_problem + grand) ** 2).sum()),
    }
    # With one seed (or problem) the other's mean square holds all the variation there is.
    return {name: sums[name] / freedoms[name] if freedoms[name] else 0.0 for name in sums}, freedoms


def bootstrap_interval(x_SP: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean with the 95% percentile interval of a bootstrap over problems and seeds.

    Problems and seeds are drawn with replacement independently of each other, and every pair of a drawn seed and a
    drawn problem is kept (the pigeonhole bootstrap, Owen 2007). Given differences of two arms it is the paired
    bootstrap. With three seeds it says too little of what another seed would do: read it beside
    :func:`hierarchical_interval`.

    Args:
        x_SP: Shape [S, P], or [P] for a single seed.
        seed: Of the resamples.
        resamples: R.
    """
    x = np.atleast_2d(np.asarray(x_SP, dtype=float))
    S, P = x.shape
    rng = np.random.default_rng(seed)
    seeds_RS = rng.multinomial(S, np.full(S, 1 / S), size=resamples) / S
    problems_RP = rng.multinomial(P, np.full(P, 1 / P), size=resamples) / P
    means_R = np.einsum("rs,sp,rp->r", seeds_RS, x, problems_RP, optimize=True)
    low, high = np.quantile(means_R, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Interval(float(x.mean()), float(low), float(high))


def seed_interval(x_S: ArrayLike) -> Interval:
    """Return the mean over seeds with its 95% t-interval; one seed has the whole line as interval."""
    x = np.asarray(x_S, dtype=float)
    if len(x) < 2:
        return Interval(float(x.mean()), -math.inf, math.inf, 1.0, 0.0)
    return hierarchical_interval(x[:, None])


def holm(p_values: ArrayLike) -> FloatArray:
    """Return p-values adjusted for the family-wise error rate (Holm 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """Return p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(np.asarray(p_values, dtype=float)))


def effect(a_SP: ArrayLike, b_SP: ArrayLike) -> Effect:
    """Return the size of the difference of two arms over problems, seeds averaged; shapes [S, P] or [P]."""
    a, b = (np.atleast_2d(np.asarray(x, dtype=float)).mean(axis=0) for x in (a_SP, b_SP))
    difference = a - b
    deviation = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    correction = 1 - 3 / (4 * (len(difference) - 1) - 1) if len(difference) > 2 else 1.0
    wins = float((difference > 0).mean() + (difference == 0).mean() / 2)
    standardized = correction * float(difference.mean()) / deviation if deviation > 1e-12 else None
    return Effect(float(difference.mean()), standardized, wins)


def share(count: int, of: int) -> Interval:
    """Return a share of runs with its 95% Clopper-Pearson interval (exact, so wide for three seeds)."""
    from scipy.stats import binomtest

    exact = binomtest(count, of).proportion_ci(CONFIDENCE, method="exact")
    return Interval(count / of, float(exact.low), float(exact.high))


def worst_drawdown(curve: ArrayLike) -> float:
    """Return the largest fall from a value to a later one, 0 if the curve never falls.

    Example:
        >>> worst_drawdown([0.3, 0.9, 0.5, 0.7, 0.4])
        0.5
    """
    x = np.asarray(curve, dtype=float)
    return float((np.maximum.accumulate(x) - x).max())


def worst_drawdown_to_last(curve: ArrayLike) -> float:
    """Return how far the last value lies below the best one.

    Example:
        >>> round(worst_drawdown_to_last([0.3, 0.9, 0.5, 0.7]), 3)
        0.2
    """
    x = np.asarray(curve, dtype=float)
    return float(x.max() - x[-1])
