"""Stationary points of the natural-gradient flow with a utility of the success rate, and entropy.

On a support S with right and wrong outcomes the flow rests where `sharpen.theory.optima.utilities` has a solution for
the problem restricted to S. There A_i = w_r f'(P) r_i + ... - w_h log pi_i, whose linearisation on vectors that sum
to zero is -w_h and, in the one direction pi_i (r_i - P) that moves P, w_r f''(P) P (1 - P) more. Towards an outcome
outside S the growth rate is infinite, because of the entropy.

On a support of right outcomes only P = 1, on one of wrong ones P = 0. All r are equal there, so the flow rests at the
untilted policy with all eigenvalues -w_h inside. Outside, the entropy's rate is +inf like log(1 / pi_j). For arcsin
that of the utility, f'(P) = (P (1 - P))^(-1/2), is faster: a right set keeps wrong outcomes out, whatever the KL's
weight, so the set of all right ones is stable.

The supports are numbers whose bit i says whether the base's i-th possible outcome is in them; points are computed by
blocks of supports and made one by one when they are read.

Axis letters: n outcomes, m of them in the base's support, k points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import Objective
from sharpen.theory.core import backend
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.instability.points import BLOCK_NUMBERS, CLASSES, LazyPoints, masks_of, places_of
from sharpen.theory.optima import utilities
from sharpen.theory.optima.optimum import policy_value


class Rates(NamedTuple):
    """Eigenvalues of points by groups of equal ones, shapes [k]: how many there are, and the one that differs.

    Args:
        plain: How many are -w_h.
        one: The eigenvalue in the direction that moves P; NaN where there is no such direction.
        up: How many are +inf.
        down: How many are -inf.
    """

    plain: NDArray[np.int64]
    one: FloatArray
    up: NDArray[np.int64]
    down: NDArray[np.int64]


class UtilityPoints(LazyPoints):
    """The points of every non-empty support, stable ones first, then by falling value; each is made when it is read."""

    def __init__(self, objective: Objective, problem: Problem) -> None:
        """Solve the equation for the success rate on every support.

        Args:
            objective: In mode ``sampling`` with a frozen reference.
            problem: n outcomes, m of them in the base's support, right and wrong ones.

        Raises:
            InputError: the objective or problem is another.
        """
        self._objective, self._problem = objective, problem
        self._level = utilities.untilted(objective, problem)[problem.support]
        self._right = problem.reward[problem.support] == 1.0
        self._m = m = self._level.size
        width = max(1, BLOCK_NUMBERS // m)
        blocks = [self._block(np.arange(at, min(at + width, 2**m))) for at in range(1, 2**m, width)]
        code, odds, tilt, value, reward, kind, place = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        order = np.lexsort((place, -value, kind))
        self._codes, self._odds, self._tilt, self._kind = code[order], odds[order], tilt[order], kind[order]
        self._value, self._reward = value[order], reward[order]

    def _block(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.generic], ...]:
        """Return of every point on these supports: code, log-odds x, tilt x - x_0, J, E[r], class and place in order.

        A support of right or of wrong outcomes alone has no x and no tilt: NaN and 0.
        """
        masks = masks_of(codes, self._m)
        both = np.any(masks & self._right, axis=1) & np.any(masks & ~self._right, axis=1)
        inside = np.where(masks[both], self._level, -np.inf)
        start = np.logaddexp.reduce(inside[:, self._right], axis=1)
        start -= np.logaddexp.reduce(inside[:, ~self._right], axis=1)
        w = self._objective.coefficients
        lower, upper = utilities.solved(self._objective.utility, start, w.w_r / w.w_h)
        upper = np.where(upper == lower, np.nan, upper)  # at the fold they are one
        alone = np.full(int((~both).sum()), np.nan)
        code = np.concatenate([codes[~both], codes[both], codes[both]])
        odds = np.concatenate([alone, lower, upper])
        tilt = np.concatenate([np.zeros_like(alone), lower - start, upper - start])
        there = np.concatenate([np.ones(alone.size, dtype=bool), np.isfinite(lower), np.isfinite(upper)])
        code, odds, tilt = code[there], odds[there], tilt[there]
        masks = masks_of(code, self._m)
        full = self._policies(masks, tilt)
        with np.errstate(divide="ignore"):  # log P of wrong outcomes alone is minus infinity
            value = np.asarray(policy_value(self._objective, self._problem, full))
        kind = self._kinds(self._rates(masks, odds))
        return code, odds, tilt, value, np.exp(full) @ self._problem.reward, kind, places_of(masks)

    def _policies(self, masks: NDArray[np.bool_], tilt: FloatArray) -> FloatArray:
        """Return log pi of points, shape [k, n]."""
        full = np.full((len(masks), self._problem.n), -np.inf)
        level = np.where(masks, self._level, -np.inf)
        full[:, self._problem.support] = backend.gibbs(level + tilt[:, None] * self._right)
        return full

    def _rates(self, masks: NDArray[np.bool_], odds: FloatArray) -> Rates:
        size, w, name = masks.sum(axis=1), self._objective.coefficients, self._objective.utility
        mixed = np.isfinite(odds)
        one = np.where(mixed, -w.w_h + w.w_r * utilities.bend_at(name, np.where(mixed, odds, 0.0), np), np.nan)
        # arcsin's rate away from certainty is faster than the entropy's towards a wrong outcome.
        certain = ~np.any(masks & ~self._right, axis=1) if name == "arcsin" else np.zeros(len(masks), dtype=bool)
        down = np.where(certain, int((~self._right).sum()), 0)
        return Rates(size - 1 - mixed, one, self._m - size - down, down)

    def _kinds(self, rates: Rates) -> NDArray[np.intp]:
        """Return the places in ``CLASSES`` that the eigenvalues' signs give."""
        positive = (rates.up > 0) | (rates.one > 0)
        negative = (rates.plain > 0) | (rates.down > 0) | (rates.one < 0)
        still = np.where(rates.one == 0, CLASSES.index("neutral"), CLASSES.index("stable"))
        moving = np.where(negative, CLASSES.index("saddle"), CLASSES.index("unstable"))
        return np.where(positive, moving, still)

    def _extremes(self, at: slice, masks: NDArray[np.bool_]) -> FloatArray:
        rates = self._rates(masks, self._odds[at])
        plain = np.where(rates.plain > 0, -self._objective.coefficients.w_h, np.nan)
        low, high = np.fmin(plain, rates.one), np.fmax(plain, rates.one)
        low = np.where(rates.down > 0, -np.inf, np.fmin(low, np.where(rates.up > 0, np.inf, np.nan)))
        high = np.where(rates.up > 0, np.inf, np.fmax(high, np.where(rates.down > 0, -np.inf, np.nan)))
        return np.array([low, high])

    def _laws(self, rows: NDArray[np.intp], masks: NDArray[np.bool_]) -> Iterator[tuple[FloatArray, FloatArray]]:
        policies = np.exp(self._policies(masks, self._tilt[rows]))
        rates, w_h = self._rates(masks, self._odds[rows]), self._objective.coefficients.w_h
        for policy, plain, one, up, down in zip(policies, *rates, strict=True):
            finite = np.full(int(plain), -w_h) if np.isnan(one) else np.append(np.full(int(plain), -w_h), one)
            yield policy, np.concatenate([np.full(up, np.inf), np.sort(finite)[::-1], np.full(down, -np.inf)])
