"""pass@k and maj@k of n samples a problem, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb

from sharpen.objective import InputError


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return 1 - C(n - c, k)/C(n, k), the unbiased estimate of P(some of k samples is right) (Chen 2021).

    Raises:
        InputError: not 1 <= k <= n.

    Example:
        >>> pass_at_k(4, 1, 2)
        0.5
    """
    if not 1 <= k <= n:
        raise InputError("k", k, f"1 to the number of samples, {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def maj_at_k(answers: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Return the probability that the majority answer of k of the samples, drawn without replacement, is right.

    A tie goes to the answer seen first; among tied answers each is first with equal probability, since the order of the
    draw is exchangeable, so a tie of m answers counts 1/m. Samples without an answer (None) vote for "no answer", which
    is wrong. Computed exactly by counting the k-subsets, class by class.

    Args:
        answers: Final answer of each sample; equal answers are one vote's class.
        correct: Whether each sample is right; samples with the same answer must agree.
        k: Subset size, 1 to the number of samples.

    Raises:
        InputError: k is out of range.
        ValueError: two samples with one answer are marked differently.

    Example:
        >>> maj_at_k(["1", "1", "2"], [True, True, False], 3)
        1.0
    """
    if not 1 <= k <= len(answers):
        raise InputError("k", k, f"1 to the number of samples, {len(answers)}")
    right = {answer for answer, good in zip(answers, correct, strict=True) if good}
    if right & {answer for answer, good in zip(answers, correct, strict=True) if not good}:
        raise ValueError("correct: got both true and false for one answer, allowed: one mark an answer")
    sizes = Counter(answers)
    favourable = sum(
        _winning_subsets(sizes[answer], [size for other, size in sizes.items() if other != answer], k)
        for answer in right
    )
    return favourable / comb(len(answers), k)


def _winning_subsets(own: int, others: list[int], k: int) -> float:
    """Count the k-subsets that a class of ``own`` samples wins, those with a tie of m classes weighing 1/m."""
    total = 0.0
    for votes in range(1, min(own, k) + 1):
        ways = {(0, 0): 1}  # (samples drawn from the other classes, classes tied with ours) -> number of subsets
        for size in others:
            grown: Counter[tuple[int, int]] = Counter()
            for (drawn, tied), count in ways.items():
                for take in range(min(size, votes, k - votes - drawn) + 1):
                    grown[drawn + take, tied + (take == votes)] += count * comb(size, take)
            ways = grown
        wins = sum(count / (tied + 1) for (drawn, tied), count in ways.items() if drawn == k - votes)
        total += comb(own, votes) * wins
    return total
