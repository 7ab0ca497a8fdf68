"""maj@k of one problem's samples by their answers; the counting is in `sharpen.objective.counts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from sharpen.objective import counts


def answers_maj_at_k(answers: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Return the probability that the majority answer of k of the samples, drawn without replacement, is right.

    A tie goes to the answer seen first; among tied answers each is first with equal probability, since the order of the
    draw is exchangeable, so a tie of m answers counts 1/m. Samples without an answer (None) vote for "no answer", which
    is wrong.

    Args:
        answers: Final answer of each sample; equal answers are one vote's class.
        correct: Whether each sample is right; samples with the same answer must agree.
        k: Subset size, 1 to the number of samples.

    Raises:
        InputError: k is out of range.
        ValueError: two samples with one answer are marked differently.

    Example:
        >>> answers_maj_at_k(["1", "1", "2"], [True, True, False], 3)
        1.0
    """
    right = {answer for answer, good in zip(answers, correct, strict=True) if good}
    if right & {answer for answer, good in zip(answers, correct, strict=True) if not good}:
        raise ValueError("correct: got both true and false for one answer, allowed: one mark an answer")
    sizes = Counter(answers)
    return float(counts.maj_at_k(list(sizes.values()), [answer in right for answer in sizes], k))
