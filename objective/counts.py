"""pass@k and maj@k estimated from counts of samples, without bias, for arrays of problems.

n samples of a problem were drawn, c of them are right. A set of k of the n, each as likely as any other, has a right
one with probability 1 - C(n - c, k)/C(n, k), whose mean over the draws is 1 - (1 - q)^k for any success probability q:
the unbiased estimate of pass@k (Chen et al. 2021, "Evaluating Large Language Models Trained on Code",
arXiv:2107.03374, equation 1). maj@k, likewise unbiased, is the
probability that the plurality vote of such a set is right.

A utility of the success rate is estimated in the same way, with its slope (:func:`utility_weights`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from operator import truediv
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_EXACT = 1000  # samples up to which every binomial coefficient is a finite float


def pass_at_k(correct: ArrayLike, n: ArrayLike, k: ArrayLike) -> FloatArray:
    """Return 1 - C(n - c, k)/C(n, k) of each problem, the unbiased estimate of P(some of k samples is right).

    Up to 1000 samples it is the ratio of whole numbers. Beyond, with m = min(c, k) and M = max(c, k), the ratio is the
    product of 1 - M/(n - i) over i < m, summed as logarithms of one sign, which keeps the relative accuracy.

    Args:
        correct: c, how many samples of each problem are right, whole numbers from 0 to n, any shape.
        n: How many were drawn, whole numbers >= 1; broadcasts with ``correct``.
        k: A whole number from 1 to the least n; or a list of K of them, which adds a last axis.

    Returns:
        The shape of ``correct`` and ``n``, or [..., K].

    Raises:
        InputError: an entry is out of range, or the shapes do not fit.

    Example:
        >>> pass_at_k([0, 1, 3], 4, [1, 2]).tolist()
        [[0.0, 0.0], [0.25, 0.5], [0.75, 1.0]]
        >>> float(pass_at_k(1, 10**6, 10))
        1e-05
    """
    c, drawn = _whole(correct, "correct", 0), _whole(n, "n", 1)
    try:
        c, drawn = np.broadcast_arrays(c, drawn)
    except ValueError as error:
        raise InputError("correct", c.shape, f"counts whose shape fits that of n, {drawn.shape}") from error
    if np.any(c > drawn):
        place = np.argmax(c > drawn)
        raise InputError("correct", int(c.flat[place]), f"0 to the number of samples, {int(drawn.flat[place])}")
    sizes = _sizes(k, int(drawn.min(initial=np.iinfo(np.int64).max)))
    triples, place = np.unique(
        np.stack([each.ravel() for each in np.broadcast_arrays(drawn[..., None], c[..., None], sizes)]),
        axis=1,
        return_inverse=True,
    )
    values = np.array([_pass_at_k(*triple) for triple in triples.T.tolist()], dtype=np.float64)
    return values[place.ravel()].reshape(c.shape + np.shape(k))


def _pass_at_k(n: int, correct: int, k: int) -> float:
    if n - correct < k:
        return 1.0
    if n <= MOST_EXACT:
        return 1.0 - math.comb(n - correct, k) / math.comb(n, k)
    fewer, more = min(correct, k), max(correct, k)
    return float(-np.expm1(np.log1p(-more / np.arange(n, n - fewer, -1)).sum())) + 0.0  # no -0


def maj_at_k(counts: ArrayLike, correct: ArrayLike, k: ArrayLike) -> FloatArray:
    """Return the probability that the plurality answer of k of a problem's samples is right, drawn without replacement.

    Ties count 1/m for each of m tied answers, which is what "the answer seen first" gives in exchangeable draws. The
    k-subsets are counted exactly, class by class, in about n k^2 steps per problem.

    Args:
        counts: How often each answer was given, whole numbers >= 0, shape [..., m]; n is their sum over the last axis.
            Samples without an answer may be one class, which is wrong.
        correct: Whether each answer is right; broadcasts to ``counts``.
        k: A whole number from 1 to the least n; or a list of K of them, which adds a last axis.

    Returns:
        Shape [...], or [..., K].

    Raises:
        InputError: an entry is out of range, or the shapes do not fit.

    Example:
        >>> maj_at_k([[2, 1], [1, 2]], [True, False], [1, 2, 3]).round(4).tolist()
        [[0.6667, 0.6667, 1.0], [0.3333, 0.3333, 0.0]]
    """
    votes = _whole(counts, "counts", 0)
    if votes.ndim == 0 or votes.shape[-1] == 0:
        raise InputError("counts", counts, "the counts of at least one answer")
    marks = np.asarray(correct)
    if marks.dtype != np.bool_ and not np.all(np.isin(marks, (0, 1))):
        raise InputError("correct", correct, "true or false for each answer")
    try:
        marks = np.broadcast_to(marks.astype(np.bool_), votes.shape)
    except ValueError as error:
        raise InputError("correct", marks.shape, f"marks whose shape fits that of counts, {votes.shape}") from error
    sizes = _sizes(k, int(votes.sum(axis=-1).min(initial=np.iinfo(np.int64).max)))
    rows = zip(votes.reshape(-1, votes.shape[-1]).tolist(), marks.reshape(-1, votes.shape[-1]).tolist(), strict=True)
    found = [[_maj_at_k(row, right, each) for each in sizes.tolist()] for row, right in rows]
    return np.array(found, dtype=np.float64).reshape(votes.shape[:-1] + np.shape(k))


def _maj_at_k(counts: Sequence[int], right: Sequence[bool], k: int) -> float:
    # Beyond some size the counts of subsets are no floats any more; fractions of whole numbers have no such end.
    divide: Callable[[int, int], Any] = truediv if sum(counts) <= MOST_EXACT else Fraction
    classes = range(len(counts))
    favourable = sum(
        _winning_subsets(counts[i], [counts[j] for j in classes if j != i and counts[j]], k, divide)
        for i in classes
        if right[i] and counts[i]
    )
    return float(favourable / math.comb(sum(counts), k))


def _winning_subsets(own: int, others: Sequence[int], k: int, divide: Callable[[int, int], Any]) -> Any:
    """Count the k-subsets that a class of ``own`` samples wins, those with a tie of m classes weighing 1/m."""
    total: Any = divide(0, 1)
    for votes in range(1, min(own, k) + 1):
        ways = {(0, 0): 1}  # (samples drawn from the other classes, classes tied with ours) -> number of subsets
        for size in others:
            grown: Counter[tuple[int, int]] = Counter()
            for (drawn, tied), count in ways.items():
                for take in range(min(size, votes, k - votes - drawn) + 1):
                    grown[drawn + take, tied + (take == votes)] += count * math.comb(size, take)
            ways = grown
        wins = sum(divide(count, tied + 1) for (drawn, tied), count in ways.items() if drawn == k - votes)
        total += math.comb(own, votes) * wins
    return total


def least_samples(utility: str) -> int:
    """Return how many samples of a problem a utility's estimates take: K for pass@K, else 1.

    Example:
        >>> least_samples("pass@8"), least_samples("log")
        (8, 1)
    """
    return int(utility.removeprefix("pass@")) if utility.startswith("pass@") else 1


def utility_weights(utility: str, n: int) -> FloatArray:
    """Return what one more right sample is worth where n - 1 others hold k = 0, ..., n - 1 right ones, shape [n].

    Its mean over the others, k ~ binomial(n - 1, P), is the slope of f_n, the polynomial that stands for the utility f:

    ========  ===========================  =======================================================================
    utility   weight                       f_n
    ========  ===========================  =======================================================================
    identity  1                            P
    pass@K    K C(n-1-k, K-1)/C(n-1, K-1)  1 - (1 - P)^K itself, for K <= n; no estimate is unbiased beyond
    log       n / (k + 1)                  -sum_{j<=n} (1 - P)^j / j, the series of log P to order n (MaxRL, arXiv
                                           2602.02710, which a sum over the group's right samples has)
    arcsin    sqrt((n-k-1)/(k+1))          what GRPO's groups of n samples ascend: slope E[sqrt(m (1 - m))]/(P (1 - P))
              + sqrt(k/(n-k))              with m the share of right ones
    ========  ===========================  =======================================================================

    Only polynomials in P of degree below n have an unbiased estimate from n - 1 samples, and this is the one that does
    not depend on their order.

    Args:
        utility: One that :func:`sharpen.objective.functional.is_utility` knows.
        n: Samples, >= 1.

    Raises:
        InputError: pass@K with K > n.

    Example:
        >>> utility_weights("log", 4).round(3).tolist(), utility_weights("pass@2", 4).round(3).tolist()
        ([4.0, 2.0, 1.333, 1.0], [2.0, 1.333, 0.667, 0.0])
    """
    k = np.arange(n, dtype=np.float64)
    if utility == "identity":
        return np.ones(n)
    if utility == "log":
        return n / (k + 1.0)
    if utility == "arcsin":
        return np.sqrt((n - k - 1.0) / (k + 1.0)) + np.sqrt(k / (n - k))
    size = least_samples(utility)
    if size > n:
        raise InputError("utility", utility, f"pass@K with K up to the number of samples of a prompt, {n}")
    ratio = 1.0  # C(n-1-k, K-1)/C(n-1, K-1), one k after the other
    weights = np.empty(n)
    for right in range(n):
        weights[right] = size * ratio
        wrong = n - 1 - right
        ratio *= max(0, wrong - size + 1) / wrong if wrong else 0.0
    return weights


def utility_slopes(utility: str, rewards: ArrayLike) -> FloatArray:
    """Return the unbiased estimate of f_n'(P) for each of n samples from the others, shape [..., n].

    Args:
        utility: See :func:`utility_weights`.
        rewards: Of the n samples of each problem, from 0 to 1, shape [..., n]. For rewards between 0 and 1 each other
            sample counts as right with that probability, which keeps the estimate unbiased for the slope at E[r].

    Raises:
        InputError: a reward is out of range, or pass@K with K > n.

    Example:
        >>> utility_slopes("log", [1, 1, 0]).tolist()
        [1.5, 1.5, 1.0]
    """
    given = _shares(rewards)
    n = given.shape[-1]
    others = np.stack([_number_right(np.delete(given, own, axis=-1)) for own in range(n)], axis=-2)
    return others @ utility_weights(utility, n)


def utility_values(utility: str, rewards: ArrayLike) -> FloatArray:
    """Return the unbiased estimate of f_n(P) from the rewards of n samples, shape [...]; arguments as above.

    With j right ones that is the sum of the first j weights over n, and a constant: f_n(1) = 0 for ``log``,
    f_n(1/2) = pi / 2 for ``arcsin``, f_n(0) = 0 for the others.

    Example:
        >>> utility_values("pass@2", [[1, 0, 0, 0], [0, 0, 0, 0]]).tolist()
        [0.5, 0.0]
    """
    given = _shares(rewards)
    n = given.shape[-1]
    values = np.concatenate([[0.0], utility_weights(utility, n).cumsum()]) / n
    start = {"log": -values[-1], "arcsin": 0.5 * (np.pi - values[-1])}.get(utility, 0.0)
    return _number_right(given) @ values + start


def _shares(rewards: ArrayLike) -> FloatArray:
    given = np.asarray(rewards, dtype=np.float64)
    wrong = ~((given >= 0.0) & (given <= 1.0))
    if np.any(wrong):
        raise InputError("reward", float(given[wrong].flat[0]), "0 to 1 with a utility of the success rate")
    return given


def _number_right(shares: FloatArray) -> FloatArray:
    """Return the law of how many of m samples are right, each with its own probability, shape [..., m + 1]."""
    law = np.zeros((*shares.shape[:-1], shares.shape[-1] + 1))
    law[..., 0] = 1.0
    for place in range(shares.shape[-1]):
        share = shares[..., place, None]
        moved = law[..., :-1] * share
        law = law * (1.0 - share)
        law[..., 1:] += moved
    return law


def _whole(numbers: ArrayLike, name: str, least: int) -> IntArray:
    allowed = f"whole numbers >= {least}"
    try:
        array = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(name, numbers, allowed) from error
    wrong = ~((array >= least) & (array == np.floor(array)) & (array < 2**53))
    if np.any(wrong):
        raise InputError(name, float(array[wrong].flat[0]), allowed)
    return array.astype(np.int64)


def _sizes(k: ArrayLike, n: int) -> IntArray:
    """Return the numbers of samples k as a list, shape [K]; none may be above n."""
    sizes = np.atleast_1d(_whole(k, "k", 1))
    if sizes.ndim != 1:
        raise InputError("k", k, "a whole number, or a list of them")
    if np.any(sizes > n):
        raise InputError("k", int(sizes[sizes > n][0]), f"1 to the number of samples, {n}")
    return sizes
