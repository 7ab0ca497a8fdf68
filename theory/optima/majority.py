"""Exact plurality votes: who wins when k samples vote, ties broken uniformly.

k draws fall on answers with probabilities q_1..q_m; what is left, q_0 = 1 - sum q, has no answer and votes for nobody.
Answer a wins with c votes against t others that also have c with probability 1/(t + 1) = int_0^1 y^t dy, so

    P(a wins) = k! [x^k] e^(q_0 x) sum_c (q_a x)^c / c! int_0^1 prod_{j != a} (sum_{i < c} (q_j x)^i / i!
                + y (q_j x)^c / c!) dy.

The coefficient is taken with x on the circle of radius k, where the factors are the characteristic functions of
truncated Poisson counts N_j of mean k q_j: the sum of all N_j is Poisson(k), and conditioning it on k gives back the
multinomial. The counts lie within a few sqrt(k) of their means, so about 12 sqrt(k) points of the circle suffice, and
the integrand is a polynomial in y, which Gauss-Legendre nodes integrate exactly. Nothing cancels: the error is rounding
(below 1e-12 up to k = 10^4) plus tails of less than 1e-17. Work: (counts the winner can have) x (ties) x m x sqrt(k).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray

IntArray = NDArray[np.int64]

NO_ANSWER = -1
NEGLIGIBLE = 1e-20  # tail of a count that is left out
SPREAD, SLACK = 12, 64  # |N - k| < 12 sqrt(k) + 64 but for less than 1e-20, N Poisson(k)
BUDGET = 5 * 10**8  # complex products; about half a minute
SUM_SLACK = 1e-6


def winner_probabilities(answer_probability: ArrayLike, k: int) -> FloatArray:
    """Return the probability that each answer wins a vote of k samples, shape [m].

    Args:
        answer_probability: q, shape [m]: non-negative, of sum at most 1. The rest votes for nobody, and when all k
            samples do, nobody wins, so the result sums to 1 - (1 - sum q)^k.
        k: Number of samples, a whole number >= 1.

    Raises:
        InputError: q are no probabilities, k is no whole number >= 1, or k and m are too large to count exactly
            (k = 10^4 leaves room for about a hundred answers).

    Example:
        >>> winner_probabilities([0.5, 0.3], 2).round(3).tolist()  # 0.2 of the samples have no answer
        [0.6, 0.36]
    """
    q = _probabilities(answer_probability)
    votes = whole_number(k, "k")
    wins = np.zeros(q.size)
    voted = np.flatnonzero(q > 0)
    if voted.size:
        wins[voted] = _wins(q[voted], max(0.0, 1.0 - math.fsum(q)), votes)
    return wins


def answer_classes(answers: ArrayLike | None, n: int) -> tuple[IntArray, int]:
    """Return the class of each outcome, 0..m-1 or -1 for no answer, shape [n], and the number m of answers.

    Args:
        answers: Answer labels, whole numbers >= -1, shape [n]; -1 means no answer. None: every outcome its own answer.
        n: Number of outcomes.

    Raises:
        InputError: the labels are not n whole numbers >= -1.

    Example:
        >>> answer_classes([7, -1, 7, 9], 4)[0].tolist()
        [0, -1, 0, 1]
    """
    if answers is None:
        return np.arange(n, dtype=np.int64), n
    try:
        labels = np.array(answers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("answers", answers, f"{n} whole numbers >= {NO_ANSWER}") from error
    if labels.shape != (n,) or not np.all((labels >= NO_ANSWER) & (labels == np.floor(labels)) & (labels < 2**53)):
        raise InputError("answers", answers, f"{n} whole numbers >= {NO_ANSWER}, one for each outcome")
    values, index = np.unique(labels, return_inverse=True)
    shift = int(values[0] == NO_ANSWER)
    return index.astype(np.int64) - shift, values.size - shift


def answer_probabilities(policy: ArrayLike, classes: IntArray, count: int) -> FloatArray:
    """Return the probability of each answer under a policy [n], shape [m]; no-answer outcomes are left out."""
    pi = np.asarray(policy, dtype=np.float64)
    return np.bincount(classes + 1, weights=pi, minlength=count + 1)[1:].astype(np.float64)


def whole_number(number: float, name: str) -> int:
    """Return a number that is whole and >= 1 as an int.

    Raises:
        InputError: it is not.
    """
    if isinstance(number, bool) or not (number >= 1 and number == math.floor(number) and number < 2**53):
        raise InputError(name, number, "a whole number >= 1")
    return int(number)


def _probabilities(given: ArrayLike) -> FloatArray:
    try:
        q = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("answer probabilities", given, "numbers >= 0 of sum at most 1") from error
    if q.ndim != 1 or not np.all((q >= 0) & (q < np.inf)) or math.fsum(q) > 1.0 + SUM_SLACK:
        raise InputError("answer probabilities", given, "a list of numbers >= 0 of sum at most 1")
    total = math.fsum(q)
    return q / total if total > 1.0 else q


def _wins(q: FloatArray, none: float, k: int) -> FloatArray:
    """Return P(a wins), shape [m], for q > 0."""
    points = SPREAD * math.isqrt(k) + SLACK + 1 | 1  # odd, so that only frequency 0 is its own mirror image
    half = points // 2 + 1
    low, high = _winning_counts(q, k)
    counts = np.arange(low, high + 1)
    nodes = (np.minimum(q.size, k // counts) + 1) // 2
    if int(nodes.sum()) * q.size * half > BUDGET or q.size * (high + 1) > BUDGET // 5:
        raise InputError(
            "k", k, f"fewer votes than can be counted exactly for {q.size} answers: lower k, or merge answers"
        )
    pmf = np.stack([_poisson(k * share, high + 1) for share in q])
    circle = np.exp(-2j * np.pi * np.arange(points) / points)
    frequency = np.arange(half)
    # [x^k] as a sum over half the circle, with the untruncated no-answer count and P(N = k) in it.
    kernel = np.where(frequency == 0, 1.0, 2.0) * np.exp(k * none * (circle[:half] - 1.0))
    kernel = kernel * circle[(-frequency * k) % points] / (points * _poisson(k, k + 1)[k])
    below = _characteristic(pmf[:, :low], points)
    wins = np.zeros(q.size)
    for c, ties in zip(counts.tolist(), nodes.tolist(), strict=True):
        wave = circle[(frequency * c) % points]
        level = pmf[:, c, None] * wave
        for y, weight in zip(*_unit_nodes(ties), strict=True):
            others = _products_of_others(below + y * level)
            wins += weight * pmf[:, c] * np.real(others @ (kernel * wave))
        below += level
    return np.clip(wins, 0.0, 1.0)


def _winning_counts(q: FloatArray, k: int) -> tuple[int, int]:
    """Return the least and largest number of votes that a winner has but for a negligible probability."""
    top = _poisson(k * q.max(), k + 1)
    low = int(np.searchsorted(np.cumsum(top), NEGLIGIBLE))
    tail = np.cumsum(top[::-1])[::-1]
    high = int(np.count_nonzero(tail >= NEGLIGIBLE)) - 1
    return max(1, low), max(1, high)


def _poisson(rate: float, size: int) -> FloatArray:
    """Return the Poisson probabilities of 0..size-1, with a relative error near rounding also for large rates.

    Ratios of neighbours are multiplied outwards from the mode: i log(rate) - log i! would lose four digits at 10^4.
    """
    mode = int(rate)
    last = max(size, mode + SPREAD * (math.isqrt(mode) + 1) + SLACK)
    above = np.arange(mode + 1, last, dtype=np.float64)
    beneath = np.arange(mode, 0, -1, dtype=np.float64)
    weights = np.concatenate(
        [
            np.exp(-np.cumsum(_log_ratio(rate, beneath)))[::-1],
            [1.0],
            np.exp(np.cumsum(_log_ratio(rate, above))),
        ]
    )
    return weights[:size] / weights.sum()


def _log_ratio(rate: float, count: FloatArray) -> FloatArray:
    """Return log(rate / count), to rounding both where they are close and where the rate is tiny."""
    near = np.log1p((np.maximum(rate, 0.5 * count) - count) / count)
    return np.where(rate > 0.5 * count, near, math.log(rate) - np.log(count))


def _characteristic(pmf: FloatArray, points: int) -> NDArray[np.complex128]:
    """Return sum_i pmf_i exp(-2 pi i t / points) for the lower half of the frequencies t, shape [m, half]."""
    padded = np.zeros((pmf.shape[0], -(-max(1, pmf.shape[1]) // points) * points))
    padded[:, : pmf.shape[1]] = pmf
    return np.fft.rfft(padded.reshape(pmf.shape[0], -1, points).sum(axis=1), axis=1)


def _products_of_others(factors: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return prod_{j != a} factors_j for every a, shape [m, T], without dividing."""
    out = np.ones_like(factors)
    np.cumprod(factors[:-1], axis=0, out=out[1:])
    out[:-1] *= np.cumprod(factors[:0:-1], axis=0)[::-1]
    return out


@lru_cache(maxsize=4096)
def _unit_nodes(count: int) -> tuple[list[float], list[float]]:
    """Return Gauss-Legendre nodes and weights on [0, 1], exact for polynomials of degree 2 count - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return ((nodes + 1.0) / 2.0).tolist(), (weights / 2.0).tolist()
