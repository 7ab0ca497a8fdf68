"""Independent tokens with a stop hazard: the length of p^alpha in closed form.

Before each token the sequence stops with probability h, otherwise it emits token v with probability q_v. Under p^alpha
the length (tokens before the stop) is geometric with continuation ratio

    rho(alpha) = (1 - h)^alpha sum_v q_v^alpha,

mean rho / (1 - rho); p^alpha is normalisable exactly if rho < 1. See docs/theory-sequences.md.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.sequences.model import MAX_EDGES, MarkovModel

LARGEST_LOG = math.log(sys.float_info.max)


@dataclass(frozen=True, eq=False, init=False)
class IidModel:
    """Independent tokens q with stop hazard h.

    Args:
        tokens: q, shape [K]; probabilities whose sum is 1 within 1e-6.
        hazard: h, the probability to stop before each token; 0 < h <= 1.

    Raises:
        InputError: the tokens are no probabilities, or the hazard is out of range.

    Example:
        >>> model = IidModel([0.4, 0.3, 0.15, 0.1, 0.05], 0.05)
        >>> round(model.mean_length(1.0), 6), round(model.mean_length(1.25), 2), model.normalisable(0.95)
        (19.0, 2.02, False)
    """

    tokens: FloatArray
    hazard: float

    def __init__(self, tokens: ArrayLike, hazard: float) -> None:
        try:
            q = Problem(tokens, np.zeros(np.size(tokens))).base
        except InputError as error:
            raise InputError("tokens", error.value, error.allowed) from error
        if not 0.0 < hazard <= 1.0:
            raise InputError("hazard", hazard, "a probability > 0 and <= 1")
        object.__setattr__(self, "tokens", q)
        object.__setattr__(self, "hazard", float(hazard))

    def log_continuation(self, alpha: float) -> float:
        """Return log rho(alpha), minus infinity for h = 1."""
        if self.hazard == 1.0:
            return -math.inf
        q = self.tokens[self.tokens > 0]
        log_sum = (
            0.0 if alpha == 1.0 else float(np.asarray(logsumexp(alpha * np.log(q))))
        )  # sum q is 1 without rounding
        return alpha * math.log1p(-self.hazard) + log_sum

    def continuation_ratio(self, alpha: float) -> float:
        """Return rho(alpha), the probability weight of one more token relative to stopping here."""
        return math.exp(self.log_continuation(alpha))

    def normalisable(self, alpha: float) -> bool:
        """Return whether p^alpha has a finite sum over all sequences: rho(alpha) < 1."""
        return self.log_continuation(alpha) < 0.0

    def mean_length(self, alpha: float = 1.0) -> float:
        """Return the mean number of tokens under p^alpha, rho / (1 - rho); infinity if p^alpha does not exist."""
        log_rho = self.log_continuation(alpha)
        return math.exp(log_rho) / -math.expm1(log_rho) if log_rho < 0.0 else math.inf

    def std_length(self, alpha: float = 1.0) -> float:
        """Return the standard deviation of the length under p^alpha, sqrt(rho) / (1 - rho), or infinity."""
        log_rho = self.log_continuation(alpha)
        return math.exp(log_rho / 2) / -math.expm1(log_rho) if log_rho < 0.0 else math.inf

    def temperature_mean_length(self, alpha: float) -> float:
        """Return the mean length at token-level temperature 1/alpha, rho(alpha) / h^alpha."""
        log_mean = self.log_continuation(alpha) - alpha * math.log(self.hazard)
        return math.exp(log_mean) if log_mean < LARGEST_LOG else math.inf

    @property
    def slope(self) -> float:
        """The derivative of log rho at alpha = 1, log(1 - h) - H(q); minus infinity for h = 1."""
        if self.hazard == 1.0:
            return -math.inf
        q = self.tokens[self.tokens > 0]
        return math.log1p(-self.hazard) + float(q @ np.log(q))

    @property
    def critical_alpha(self) -> float | None:
        """The alpha in [0, 1) with rho(alpha) = 1, above which p^alpha exists; None if it exists for every alpha."""
        if self.hazard == 1.0:
            return None
        if np.count_nonzero(self.tokens) == 1:
            return 0.0
        if self.log_continuation(1.0) >= 0.0:  # a hazard below the rounding of 1
            return 1.0
        from scipy.optimize import brentq

        return float(brentq(self.log_continuation, 0.0, 1.0, xtol=1e-15))  # pyright: ignore[reportArgumentType]

    def markov(self) -> MarkovModel:
        """Return the same law as a Markov model: state 0 before the first token, state v + 1 after token v.

        Raises:
            InputError: the K (K + 1) transitions are too many to list.
        """
        k = self.tokens.size
        if k * (k + 1) > MAX_EDGES:
            raise InputError(
                "tokens", f"{k} tokens", f"at most {math.isqrt(MAX_EDGES)} for a model with one state a token"
            )
        row = np.concatenate([[0.0], (1.0 - self.hazard) * self.tokens])
        labels = ["^", *(str(v) for v in range(k))]
        return MarkovModel(np.tile(row, (k + 1, 1)), np.full(k + 1, self.hazard), 0, labels)
