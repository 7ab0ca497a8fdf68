"""Intervals over prompts, the unit that is sampled: a Bayesian bootstrap with half a prompt at each end.

Prompts get random weights from a Dirichlet distribution (Rubin 1981), and the interval is made of quantiles of the
weighted means. A measure that lies between two ends, as an accuracy between 0 and 1, gets two further prompts of half
the weight, one at each end: of values that are all 0 or 1 the interval is then Jeffreys's, and of prompts that all fail
it is not of width 0. The quantiles are expanded so that few prompts are not taken for many (Hesterberg 2015, section
5.3): with these weights the mean of P values has the variance (P - 1)/(P + 1) s^2/P, so Student's quantile is taken
sqrt((P + 1)/(P - 1)) times. tests/theory/forecast/test_coverage.py counts how often the intervals cover the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.stats import norm, t

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray

CONFIDENCE = 0.95
SURE = 0.99  # of the intervals that a verdict rests on: it looks at several exponents
RESAMPLES = 2000
UNIT = (0.0, 1.0)


class Resampler:
    """Random weights of P prompts for intervals, the same for every measure, so that measures compare draw by draw.

    Args:
        prompts: P, at least 2.
        seed: Of the draws.
    """

    def __init__(self, prompts: int, seed: int) -> None:
        if prompts < 2:
            raise InputError("problems", prompts, "at least 2: intervals are over prompts")
        self.prompts, self.seed = prompts, seed
        self.tails = self._tails(CONFIDENCE)

    def _tails(self, confidence: float) -> list[float]:
        freedom = self.prompts - 1
        tail = norm.cdf(math.sqrt((self.prompts + 1) / freedom) * t.ppf((1 - confidence) / 2, freedom))
        return [float(tail), float(1 - tail)]

    @cached_property
    def _gammas(self) -> FloatArray:
        shapes = np.concatenate([np.ones(self.prompts), [0.5, 0.5]])
        return np.random.default_rng(self.seed).gamma(shapes, size=(RESAMPLES, self.prompts + 2))

    def mean(self, values: FloatArray, ends: tuple[float, float] | None = None) -> tuple[float, float]:
        """Return the interval of the mean of values of prompts, shape [P], which lie between ``ends`` if given."""
        weights = self._gammas if ends is not None else self._gammas[:, : self.prompts]
        extended = np.concatenate([values, ends]) if ends is not None else values
        low, high = np.quantile(weights @ extended / weights.sum(axis=1), self.tails)
        return float(low), float(high)

    def is_apart(self, values: FloatArray, confidence: float) -> bool:
        """Return whether the interval of the mean at another confidence leaves 0 out."""
        weights = self._gammas[:, : self.prompts]
        low, high = np.quantile(weights @ values / weights.sum(axis=1), self._tails(confidence))
        return bool(low * high > 0)

    def function(self, of: Callable[[FloatArray], FloatArray], columns: FloatArray) -> tuple[float, float]:
        """Return the interval of a function of means.

        Args:
            of: Means of each draw, shape [B, C], to values, shape [B]; draws that have none are NaN and left out.
            columns: Values of prompts, shape [P, C].
        """
        weights = self._gammas[:, : self.prompts]
        found = of(weights @ columns / weights.sum(axis=1, keepdims=True))
        found = found[np.isfinite(found)]
        if not found.size:
            return math.nan, math.nan
        low, high = np.quantile(found, self.tails)
        return float(low), float(high)
