r"""Goodness of fit of n independent draws to a law p that is known exactly, and the n that finds a given deviation.

Pearson's statistic sum (O_i - n p_i)^2 / (n p_i) over k classes has, where the draws follow p, nearly the law chi^2
with k - 1 degrees of freedom, and where they follow q nearly the noncentral one, n sum (q_i - p_i)^2 / p_i from it.
Of all q at total variation d from p none has a smaller one than 4 n d^2: by Cauchy and Schwarz the outcomes S that q
favours give at least d^2 / p(S) and the others d^2 / (1 - p(S)), together d^2 / (p(S) (1 - p(S))) >= 4 d^2. So the
power against *every* deviation of that size is bounded from below, without knowing which mistake a sampler makes.

Outcomes that are expected fewer than :data:`EXPECTED` times are one class. Within it deviations cancel and are not
seen; they are at most its probability h, so what is left to be seen of d is at least d - h.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, chi2, ncx2

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray

EXPECTED = 5.0  # draws of a class, the usual rule for Pearson's statistic
MOST_DRAWS = 10**9


@dataclass(frozen=True)
class Goodness:
    """How draws compare with a law.

    Args:
        draws: n.
        impossible: Draws that the law does not have.
        chi_square: Pearson's statistic; infinite with impossible draws.
        freedom: Its degrees of freedom, classes - 1.
        p_value: Chance of as much under the law.
        total_variation: Between the draws' shares and the law, sum |O_i / n - p_i| / 2 over all outcomes.
        expected_variation: Its mean where the draws follow the law; it is not 0.
        largest_variation: It is larger with a chance of at most the false alarm, where the draws follow the law.
        exact: Whether the p-value is at least the false alarm.
        residuals: (O_i - n p_i) / sqrt(n p_i (1 - p_i)), one per outcome; 0 where the law is 0 or 1.
    """

    draws: int
    impossible: int
    chi_square: float
    freedom: int
    p_value: float
    total_variation: float
    expected_variation: float
    largest_variation: float
    exact: bool
    residuals: FloatArray


def compare(counts: ArrayLike, law: ArrayLike, false_alarm: float, impossible: int = 0) -> Goodness:
    """Compare draws with a law.

    Args:
        counts: Draws of each outcome, shape [n].
        law: Probability of each outcome, shape [n].
        false_alarm: Chance to call draws of the law something else, in (0, 1).
        impossible: Draws of none of these outcomes.

    Raises:
        InputError: the law is none, or too few draws are expected of all but one class.

    Example:
        >>> found = compare([60, 40], [0.5, 0.5], false_alarm=0.01)
        >>> found.chi_square, found.freedom, found.exact
        (4.0, 1, True)
    """
    observed, p = np.asarray(counts, dtype=np.int64), _law(law)
    _check_chance("false_alarm", false_alarm)
    if observed.shape != p.shape or np.any(observed < 0) or impossible < 0:
        raise InputError("counts", counts, f"{p.size} whole numbers >= 0, one an outcome")
    draws = int(observed.sum()) + impossible
    labels = classes(p, draws)
    expected, seen = draws * np.bincount(labels, weights=p), np.bincount(labels, weights=observed)
    freedom = expected.size - 1
    statistic = math.inf if impossible else float(np.sum((seen - expected) ** 2 / expected))
    p_value = float(chi2.sf(statistic, freedom))
    mean = _mean_variation(p, draws)
    spread = np.sqrt(draws * p * (1 - p))
    residuals = np.divide(observed - draws * p, spread, out=np.zeros(p.size), where=spread > 0)
    return Goodness(
        draws=draws,
        impossible=impossible,
        chi_square=statistic,
        freedom=freedom,
        p_value=p_value,
        total_variation=float(np.abs(observed / draws - p).sum() + impossible / draws) / 2,
        expected_variation=mean,
        largest_variation=min(1.0, mean + math.sqrt(math.log(1 / false_alarm) / (2 * draws))),  # McDiarmid 1989
        exact=p_value >= false_alarm,
        residuals=residuals,
    )


def classes(law: FloatArray, draws: int) -> np.ndarray:
    """Return the class of each outcome, shape [n]: its own, or the one of all that are expected too rarely.

    Args:
        law: Probabilities, shape [n].
        draws: How many draws there are.

    Raises:
        InputError: fewer than two classes are left.
    """
    order = np.argsort(-law, kind="stable")
    own = int(np.sum(draws * law >= EXPECTED))
    rest = float(law[order[own:]].sum())
    while own < law.size and own > 0 and draws * rest < EXPECTED:
        own -= 1  # the rest takes the rarest of the others in
        rest += float(law[order[own]])
    if own + (own < law.size) < 2:
        raise InputError("draws", draws, f"more: fewer than two classes are expected {EXPECTED:g} times")
    labels = np.full(law.size, own)
    labels[order[:own]] = np.arange(own)
    return labels


def power(law: ArrayLike, draws: int, tv: float, false_alarm: float) -> float:
    """Return the chance to find a deviation, whichever it is, at least; 0 where it can hide in the rare outcomes.

    Args:
        law: Probabilities, shape [n].
        draws: How many draws there are.
        tv: Total variation between what is drawn from and the law, in (0, 1).
        false_alarm: As :func:`compare` has it.

    Raises:
        InputError: a number is out of its range, or too few draws are expected of all but one class.
    """
    p = _law(law)
    _check_chance("tv", tv)
    _check_chance("false_alarm", false_alarm)
    labels = classes(p, draws)
    merged = np.bincount(labels)[-1] > 1
    seen = tv - (float(p[labels == labels.max()].sum()) if merged else 0.0)
    freedom = int(labels.max())
    if seen <= 0:
        return 0.0
    return float(ncx2.sf(chi2.isf(false_alarm, freedom), freedom, 4 * draws * seen**2))


def draws_needed(law: ArrayLike, tv: float, *, power_wanted: float, false_alarm: float) -> int:
    """Return how many draws find every deviation of a size with the power that is wanted.

    Args:
        law: Probabilities, shape [n].
        tv: Total variation to be found, in (0, 1).
        power_wanted: Chance to find it, between ``false_alarm`` and 1.
        false_alarm: As :func:`compare` has it.

    Raises:
        InputError: a number is out of its range; the law has one outcome; or more than :data:`MOST_DRAWS` are needed.

    Example:
        >>> draws_needed([0.5, 0.5], 0.1, power_wanted=0.9, false_alarm=0.05)
        263
    """
    p = _law(law)
    _check_chance("power", power_wanted)
    if power_wanted <= false_alarm:
        raise InputError("power", power_wanted, f"more than the false alarm, {false_alarm:g}")
    if np.count_nonzero(p) < 2:
        raise InputError("law", "one outcome", "at least two: whatever is drawn of one is right")

    def enough(draws: int) -> bool:
        try:
            return power(p, draws, tv, false_alarm) >= power_wanted
        except InputError as error:
            if error.field == "draws":
                return False
            raise

    high = 1
    while not enough(high):
        high *= 2
        if high > MOST_DRAWS:
            raise InputError("tv", tv, f"a deviation that at most {MOST_DRAWS:,} draws find")
    between = range(high // 2 + 1, high + 1)  # half of it is not enough
    return between[bisect_left(between, True, key=enough)]


def _law(law: ArrayLike) -> FloatArray:
    p = np.asarray(law, dtype=np.float64)
    if p.ndim != 1 or p.size == 0 or not np.all(np.isfinite(p)) or np.any(p < 0) or abs(p.sum() - 1) > 1e-9:
        raise InputError("law", law, "probabilities of a finite number of outcomes, which sum to 1")
    return p


def _check_chance(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(name, value, "a number between 0 and 1, both left out")


def _mean_variation(p: FloatArray, draws: int) -> float:
    """Return the mean total variation of n draws of p: half the sum of mean absolute deviations (de Moivre 1730)."""
    places = np.floor(draws * p) + 1
    return float(np.sum(places * (1 - p) * binom.pmf(places, draws, p))) / draws
