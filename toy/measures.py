"""Numbers that describe recorded policies.

Axis letters: K records, S seeds, n outcomes.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from sharpen.objective import Objective
from sharpen.theory.optimum import policy_value
from sharpen.theory.problem import Problem

FloatArray = NDArray[np.float64]
CONFIDENCE = 0.95


def measure(objective: Objective, problem: Problem, log_policy: FloatArray) -> dict[str, FloatArray]:
    """Return measures of policies given as log-probabilities, shape [..., n] to [...] each.

    Returns:
        ``expected_reward`` E[r]; ``value`` J (with a moving reference p is the policy itself); ``entropy`` H in nats;
        ``kl_base`` KL(pi || base) in nats; ``top1`` the largest probability.
    """
    policy = np.exp(log_policy)
    log_pi = np.where(policy > 0, log_policy, 0.0)  # 0 log 0 = 0
    log_base = np.where(problem.support, problem.log_base, 0.0)  # no policy leaves the base's support
    return {
        "expected_reward": policy @ problem.reward,
        "value": np.asarray(policy_value(objective, problem, log_policy)),
        "entropy": -np.sum(policy * log_pi, axis=-1),
        "kl_base": np.sum(policy * (log_pi - log_base), axis=-1),
        "top1": policy.max(axis=-1),
    }


def mean_interval(samples: FloatArray) -> tuple[float, list[float] | None]:
    """Return the mean over seeds, shape [S], and its 95% t-interval; None for a single seed.

    Example:
        >>> mean_interval(np.array([1.0]))
        (1.0, None)
    """
    mean = float(np.mean(samples))
    if samples.size < 2:
        return mean, None
    error = float(np.std(samples, ddof=1)) / math.sqrt(samples.size)
    half = float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, samples.size - 1)) * error
    return mean, [mean - half, mean + half]
