"""Certified optima from a part of the outcomes: what the unseen ones can change at most (T15).

A tree of prefixes has finished sequences that were seen and a frontier of prefixes that were not followed. Below a
prefix of probability u the unseen sequences satisfy, for alpha >= 1,

    sum p^alpha <= u^alpha,    because sum (p/u)^alpha <= sum p/u <= 1.

With weights w = p^alpha e^{beta_inv r}, Z = sum of w over the seen, R = sum of w r, and U = sum of u^alpha over the
frontier, rewards in [0, 1] give

    R / (Z + U) <= E[r] <= (R + U e^beta_inv) / (Z + U e^beta_inv)

where rewards are 0 or 1: unseen wrong sequences have the weight p^alpha, right ones p^alpha e^beta_inv. Where they may
lie between, the lower end is R / (Z + U e^beta_inv). alpha < 1 has no such bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray


class Interval(NamedTuple):
    """Bounds of a number that hold for certain, up to rounding."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How far they are apart."""
        return self.high - self.low


class Seen(NamedTuple):
    """The part of one prompt's outcomes that is known.

    Args:
        logprob: log p of each seen outcome, nats, shape [n].
        reward: Its reward in [0, 1], shape [n].
        frontier: log u of each prefix that was not followed, nats, shape [m]; many cut together may stand as one
            number at one alpha, 1/alpha log(sum u^alpha).
    """

    logprob: FloatArray
    reward: FloatArray
    frontier: FloatArray

    @classmethod
    def of(cls, logprob: ArrayLike, reward: ArrayLike, frontier: ArrayLike) -> Seen:
        """Return checked arrays.

        Raises:
            InputError: other numbers of log-probabilities and rewards, none of both, rewards outside [0, 1], or
                log-probabilities above 0.
        """
        log_p, r, log_u = (np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (logprob, reward, frontier))
        if log_p.ndim != 1 or log_p.shape != r.shape or not log_p.size + log_u.size:
            raise InputError("reward", f"shape {list(r.shape)}", f"one an outcome, shape {list(log_p.shape)}")
        if not np.all((r >= 0) & (r <= 1)):
            raise InputError("reward", r[~((r >= 0) & (r <= 1))][0], "numbers in [0, 1]")
        for name, logs in (("logprob", log_p), ("frontier", log_u)):
            if not np.all(logs <= 1e-6):
                raise InputError(name, float(np.max(logs)), "log-probabilities, at most 0")
        return cls(log_p, r, log_u)

    @property
    def binary(self) -> bool:
        """Whether every seen reward is 0 or 1."""
        return bool(np.all((self.reward == 0) | (self.reward == 1)))


def expected_reward(seen: Seen, objective: Objective, *, binary: bool = True) -> Interval:
    """Return bounds of E[r] under the objective's optimum, p^alpha e^{beta_inv r} / Z.

    Args:
        seen: The known part of a prompt.
        objective: With entropy, a frozen reference, the likelihood of sums, and alpha >= 1.
        binary: Whether unseen rewards are 0 or 1; otherwise they lie in [0, 1].

    Raises:
        InputError: the objective has another optimum, or alpha < 1.

    Example:
        >>> half = Seen.of(np.log([0.5, 0.3]), [1, 0], np.log([0.2]))
        >>> [round(end, 6) for end in expected_reward(half, Objective(alpha=2, beta_inv=0, mode="sampling"))]
        [0.657895, 0.763158]
    """
    weight, right, wrong_unseen, right_unseen = _sums(seen, *_exponents(objective))
    least = weight + (wrong_unseen if binary else right_unseen)
    most = weight + right_unseen
    return Interval(right / least if least > 0 else 0.0, (right + right_unseen) / most if most > 0 else 1.0)


def log_normalizer(seen: Seen, objective: Objective) -> Interval:
    """Return bounds of log Z = log sum p^alpha e^{beta_inv r}, nats."""
    alpha, beta_inv = _exponents(objective)
    logs = alpha * seen.logprob + beta_inv * seen.reward
    low, unseen = (
        float(np.logaddexp.reduce(each)) for each in (logs, alpha * seen.frontier)
    )  # of none: minus infinity
    return Interval(low, float(np.logaddexp(low, unseen + beta_inv)))


def pass_at_k(seen: Seen, objective: Objective, k: int, *, binary: bool = True) -> Interval:
    """Return bounds of the chance that one of k samples of the optimum is right, 1 - (1 - E[r])^k.

    Raises:
        InputError: see :func:`expected_reward`; or k < 1.
    """
    if k < 1:
        raise InputError("k", k, "a whole number >= 1")
    low, high = expected_reward(seen, objective, binary=binary)
    return Interval(-math.expm1(k * math.log1p(-min(low, 1 - 1e-16))), 1.0 - (1.0 - min(high, 1.0)) ** k)


def mode_is_certain(seen: Seen) -> bool:
    """Return whether the likeliest seen outcome is likelier than anything below the frontier can be."""
    if not seen.logprob.size:
        return False
    return not seen.frontier.size or bool(np.max(seen.logprob) > np.max(seen.frontier))


def _exponents(objective: Objective) -> tuple[float, float]:
    objective.require_plain("bounds from a part of the outcomes")
    if objective.mode != "sampling" or objective.reference != "frozen" or objective.normalization != "sum":
        raise InputError("objective", objective.regime, "mode sampling, a frozen reference and normalization sum")
    if objective.alpha < 1:
        raise InputError("alpha", objective.alpha, "at least 1: below it unseen outcomes have no bound")
    return objective.alpha, objective.beta_inv


def _sums(seen: Seen, alpha: float, beta_inv: float) -> tuple[float, float, float, float]:
    """Return Z, R, U and U e^beta_inv, all divided by the largest weight that there can be: none overflows."""
    logs, log_u = alpha * seen.logprob + beta_inv * seen.reward, alpha * seen.frontier
    top = max((float(np.max(array)) for array in (logs, log_u + beta_inv) if array.size), default=0.0)
    w = np.exp(logs - top)
    wrong, right = (float(np.sum(np.exp(log_u + tilt - top))) for tilt in (0.0, beta_inv))
    return float(np.sum(w)), float(np.sum(w * seen.reward)), wrong, right
