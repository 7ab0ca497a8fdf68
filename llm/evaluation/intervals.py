"""Intervals and tests over problems, the unit that an evaluation samples.

Samples of one problem agree more than samples of different ones, so problems are resampled, never samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BOOTSTRAP_RESAMPLES = 2000
PERMUTATIONS = 9999
CONFIDENCE = 0.95
TAILS = [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0]


class Paired(NamedTuple):
    """How two evaluations of the same problems differ in one measure.

    Args:
        difference: Mean over problems of a - b.
        interval: Its 95% percentile-bootstrap interval over problems.
        permutation_p: Two-sided p-value of the mean under exchange of a and b within problems: exact for up to 13
            problems that differ, else from 9,999 draws.
        wins: Problems with a > b.
        losses: Problems with a < b.
        sign_p: Two-sided p-value of the sign test on wins and losses, exact.
    """

    difference: float
    interval: list[float]
    permutation_p: float
    wins: int
    losses: int
    sign_p: float


def bootstrap_interval(scores: np.ndarray, seed: int, weights: np.ndarray | None = None) -> list[float]:
    """Return the 95% percentile-bootstrap interval of mean(scores), or of sum(scores) / sum(weights), over problems.

    Args:
        scores: Shape [problems].
        seed: Of the resamples.
        weights: Denominators, shape [problems], none of their resampled sums 0; None for ones.
    """
    rng = np.random.default_rng(seed)
    count = len(scores)
    # How often each problem is drawn: the resample as weights.
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=BOOTSTRAP_RESAMPLES)
    means = drawn @ scores / (count if weights is None else drawn @ weights)
    return [float(x) for x in np.quantile(means, TAILS)]


def paired(a: np.ndarray, b: np.ndarray, seed: int) -> Paired:
    """Return how two measures of the same problems differ, both of shape [problems]."""
    from scipy.stats import binomtest, permutation_test

    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    moved = difference[difference != 0]  # a problem without a difference is the same under every exchange
    p = 1.0  # also of a single problem, whose two signs are equally extreme
    if len(moved) > 1:
        test = permutation_test(
            (moved,),
            lambda x, axis: np.mean(x, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=PERMUTATIONS,
            rng=np.random.default_rng(seed),
        )
        p = float(test.pvalue)
    sign = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Paired(float(difference.mean()), bootstrap_interval(difference, seed), p, wins, losses, sign)
