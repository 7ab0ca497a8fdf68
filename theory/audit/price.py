"""What sharpening can do at all: its price in nats, the turns of its response, and pass@k under it (T22, T23, T25).

T23. For a small budget KL(pi || p) = kappa the best tilt by the reward gains sqrt(2 kappa Var r), and sharpening gains
Corr_p(r, log p) times as much. For every alpha the accuracies A of p and p^alpha satisfy kl(A_alpha || A_1) <=
KL(p^alpha || p), kl of two coins: no sharpening gains more than its KL buys.

T22. p^alpha is totally positive in (alpha, log p), so E_{p^alpha}[r] - c changes its sign in alpha at most as often as
the calibration curve E[r | log p = s] - c does in s.

T25. Over prompts j with sharpened accuracies q_j and weights w_j,
d pass@k / d alpha = k sum_j w_j (1 - q_j)^(k-1) Cov_j(r, log p), the covariance under p^alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError
from sharpen.theory.core.frames import Columns
from sharpen.theory.core.problem import FloatArray, Problem


@dataclass(frozen=True, eq=False)
class Calibration(Columns):
    """The calibration curve: the expected reward E[r | log p = s] at each log-likelihood s.

    Attributes:
        logprob: The different log-likelihoods, nats, ascending, shape [m].
        mass: Their probability under p, shape [m].
        expected_reward: E[r] given each, shape [m].
    """

    logprob: FloatArray
    mass: FloatArray
    expected_reward: FloatArray

    def turns(self) -> int:
        """Return how often the curve changes direction: the response of E[r] to alpha turns no more often."""
        steps = np.sign(np.diff(self.expected_reward))
        steps = steps[steps != 0]
        return int(np.sum(steps[1:] != steps[:-1]))

    def crossings(self, level: float) -> int:
        """Return how often the curve crosses ``level``; E_{p^alpha}[r] crosses it no more often in alpha."""
        signs = np.sign(self.expected_reward - level)
        signs = signs[signs != 0]
        return int(np.sum(signs[1:] != signs[:-1]))


def calibration(problem: Problem, tolerance: float = 1e-12) -> Calibration:
    """Return the calibration curve of a problem; outcomes within ``tolerance`` nats are of one likelihood.

    Example:
        >>> calibration(Problem([0.4, 0.2, 0.2, 0.2], [0, 1, 0, 1])).expected_reward.round(3).tolist()
        [0.667, 0.0]
    """
    inside = problem.support
    log_p, p, r = problem.log_base[inside], problem.base[inside], problem.reward[inside]
    order = np.argsort(log_p, kind="stable")
    log_p, p, r = log_p[order], p[order], r[order]
    starts = np.concatenate([[0], 1 + np.flatnonzero(np.diff(log_p) > tolerance)])
    # By weights relative to the group's own, so that groups whose probabilities underflow have a mean too.
    relative = np.exp(
        log_p - np.maximum.reduceat(log_p, starts)[np.searchsorted(starts, np.arange(p.size), "right") - 1]
    )
    means = np.add.reduceat(relative * r, starts) / np.add.reduceat(relative, starts)
    return Calibration(np.maximum.reduceat(log_p, starts), np.add.reduceat(p, starts), means)


def price(problem: Problem) -> float | None:
    """Return Corr_p(r, log p): the part of the task reward's gain that sharpening has for the same small KL (T23).

    None where the reward or the likelihood does not vary: there is nothing to gain, or nothing to sharpen.

    Example:
        >>> round(price(Problem([0.5, 0.3, 0.2], [1, 0, 0])), 4)
        0.9228
    """
    inside = problem.support
    p, r, log_p = problem.base[inside], problem.reward[inside], problem.log_base[inside]
    x, y = r - p @ r, log_p - p @ log_p
    variances = float(p @ x**2), float(p @ y**2)
    if min(variances) <= 1e-24 * (1.0 + float(p @ log_p**2)):
        return None
    return float(p @ (x * y)) / math.sqrt(variances[0] * variances[1])


def coin_kl(a: float, b: float) -> float:
    """Return kl(a || b) of two coins in nats, infinite where b excludes what a has.

    Example:
        >>> round(coin_kl(0.5, 0.25), 6), coin_kl(0.0, 0.0)
        (0.143841, 0.0)
    """
    parts = ((a, b), (1.0 - a, 1.0 - b))
    if any(x > 0 and y <= 0 for x, y in parts):
        return math.inf
    return sum(x * math.log(x / y) for x, y in parts if x > 0)


def pass_at_k_slope(problems: Sequence[Problem], k: int, alpha: float = 1.0, weights: ArrayLike | None = None) -> float:
    """Return d pass@k / d alpha of p^alpha over several prompts with rewards 0 or 1 (T25).

    Args:
        problems: One per prompt.
        k: Samples, at least 1.
        alpha: Where the slope is taken.
        weights: Of the prompts, shape [P]; equal if not given.

    Raises:
        InputError: no problem, k < 1, or a reward that is neither 0 nor 1.

    Example:
        >>> round(pass_at_k_slope([Problem([0.5, 0.3, 0.2], [1, 0, 0])], 1), 4)
        0.1683
    """
    if not problems or k < 1:
        raise InputError("k", k, "a whole number >= 1, and at least one problem")
    share = np.full(len(problems), 1 / len(problems)) if weights is None else np.asarray(weights, dtype=np.float64)
    slope = 0.0
    for problem, weight in zip(problems, share, strict=True):
        inside = problem.support
        r, log_p = problem.reward[inside], problem.log_base[inside]
        if not np.all((r == 0) | (r == 1)):
            raise InputError("reward", r[(r != 0) & (r != 1)][0], "0 or 1")
        q = np.exp(alpha * log_p - np.max(alpha * log_p))
        q /= q.sum()
        right = q @ r
        slope += weight * k * (1.0 - right) ** (k - 1) * float(q @ ((r - right) * (log_p - q @ log_p)))
    return float(slope)
