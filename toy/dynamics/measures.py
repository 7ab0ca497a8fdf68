"""Numbers that describe recorded policies.

Axis letters: K records, S seeds, n outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.optimum import policy_value

FloatArray = NDArray[np.float64]
CONFIDENCE = 0.95
COLLAPSED_ENTROPY = 0.1  # of the base's entropy; with less a policy counts as collapsed
FIXED = 0.99  # top-1 mass from which a policy counts as collapsed, and as fixed at its likeliest outcome


def measure(
    objective: Objective, problem: Problem, log_policy: FloatArray, judged: Problem | None = None
) -> dict[str, FloatArray]:
    """Return measures of policies given as log-probabilities, shape [..., n] to [...] each.

    Args:
        objective: Whose J is measured.
        problem: Base and true rewards.
        log_policy: The policies.
        judged: The problem with the rewards that the learner is given, of which J is; None: the true ones.

    Returns:
        ``expected_reward`` E[r]; ``value`` J (with a moving reference p is the policy itself); ``entropy`` H in nats;
        ``kl_base`` KL(pi || base) in nats; ``top1`` the largest probability.
    """
    policy = np.exp(log_policy)
    log_pi = np.where(policy > 0, log_policy, 0.0)  # 0 log 0 = 0
    log_base = np.where(problem.support, problem.log_base, 0.0)  # no policy leaves the base's support
    return {
        "expected_reward": policy @ problem.reward,
        "value": np.asarray(policy_value(objective, judged or problem, log_policy)),
        "entropy": -np.sum(policy * log_pi, axis=-1),
        "kl_base": np.sum(policy * (log_pi - log_base), axis=-1),
        "top1": policy.max(axis=-1),
    }


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return how many standard errors a two-sided t-interval reaches to each side."""
    return float(scipy.special.stdtrit(freedom, 0.5 + confidence / 2))


def ranks_below_median(size: int) -> int:
    """Return after how many of ``size`` sorted values the median's 95% interval begins, and before how many it ends.

    By the binomial law of order statistics; 0 where no value is low enough.
    """
    from scipy.stats import binom  # a second to import, and few commands need it

    return int(binom.ppf((1 - CONFIDENCE) / 2, size, 0.5))


def mean_interval(samples: FloatArray) -> tuple[float, list[float] | None]:
    """Return the mean over seeds, shape [S], and its 95% t-interval; None for a single seed.

    Example:
        >>> mean_interval(np.array([1.0]))
        (1.0, None)
    """
    mean = float(np.mean(samples))
    if samples.size < 2:
        return mean, None
    # In a unit that is a power of two, which changes no digit: squares of numbers up to 1e308 are numbers then.
    exponent = int(np.frexp(np.max(np.abs(samples)))[1])
    error = float(np.ldexp(np.std(np.ldexp(samples, -exponent), ddof=1), exponent)) / math.sqrt(samples.size)
    half = student_t(samples.size - 1) * error
    return mean, [mean - half, mean + half]


def wilson(count: int, of: int) -> list[float]:
    """Return the 95% Wilson interval of a share (Wilson 1927).

    Example:
        >>> [round(end, 4) for end in wilson(0, 64)]
        [0.0, 0.0566]
    """
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return [float(interval.low), float(interval.high)]


def fixation(
    top_outcome: NDArray[Any], top1: FloatArray, outcomes: Iterable[int], *, random: bool = True
) -> list[dict[str, Any]]:
    """Return the share of runs fixed at each vertex, those whose policy gives it 0.99 or more.

    Args:
        top_outcome: Likeliest outcome of each run, shape [S].
        top1: Its probability, shape [S].
        outcomes: The vertices to count.
        random: Whether the runs are; the only run of an exact learner has no interval.

    Returns:
        For each vertex ``outcome``, ``runs``, ``share`` and its 95% Wilson ``interval``.

    Example:
        >>> fixation(np.array([0, 2]), np.array([0.999, 0.6]), [0])[0]["share"]
        0.5
    """
    fixed = np.where(top1 >= FIXED, top_outcome, -1)
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        runs = int(np.sum(fixed == outcome))
        interval = wilson(runs, len(fixed)) if random else None
        rows.append({"outcome": outcome, "runs": runs, "share": runs / len(fixed), "interval": interval})
    return rows
