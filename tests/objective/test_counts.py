"""pass@k and maj@k of counts against enumeration of every subset, whole-number arithmetic, and the law of draws."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.objective import InputError
from sharpen.objective.counts import MOST_EXACT, maj_at_k, pass_at_k


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(marks: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(marks)))
    subsets = list(itertools.combinations(marks, k))
    assert pass_at_k(sum(marks), len(marks), k) == pytest.approx(np.mean([any(subset) for subset in subsets]))


def vote_share(answers: list[int], right: list[bool], k: int) -> float:
    """Return the mean over k-subsets of the share of right answers among those tied for most votes."""
    won = []
    for subset in itertools.combinations(answers, k):
        most = max(subset.count(answer) for answer in subset)
        tied = {answer for answer in subset if subset.count(answer) == most}
        won.append(np.mean([right[answer] for answer in tied]))
    return float(np.mean(won))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.lists(st.booleans(), min_size=4, max_size=4), st.data())
def test_maj_at_k_is_the_share_of_subsets_whose_vote_is_right(
    answers: list[int], right: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(answers)))
    counts = [answers.count(answer) for answer in range(4)]
    assert maj_at_k(counts, right, k) == pytest.approx(vote_share(answers, right, k), abs=1e-12)


@given(st.integers(1, 4000), st.data())
def test_pass_at_k_in_whole_numbers(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    found = float(pass_at_k(c, n, k))
    assert found == pytest.approx(float(exact), rel=1e-12, abs=1e-15)
    if n > MOST_EXACT:  # also where it is tiny
        assert found == pytest.approx(float(exact), rel=1e-12, abs=0.0)


def test_millions_of_samples() -> None:
    # c = 1: k/n exactly; k = 1: c/n; both large: 1 - (1 - k/n)^c nearly
    found = pass_at_k([1, 10**6], 10**7, [1, 10**5])
    assert found == pytest.approx(np.array([[1e-7, 1e-2], [0.1, 1.0]]), rel=1e-12, abs=0)
    assert pass_at_k(3, 10**7, 5) == pytest.approx(1.5e-6, rel=1e-5)


@pytest.mark.parametrize(("q", "n", "k"), [(0.3, 12, 4), (0.05, 20, 7)])
def test_the_mean_over_draws_is_pass_at_k_of_the_rate(q: float, n: int, k: int) -> None:
    law = np.array([math.comb(n, c) * q**c * (1 - q) ** (n - c) for c in range(n + 1)])
    assert law @ pass_at_k(np.arange(n + 1), n, k) == pytest.approx(1 - (1 - q) ** k, rel=1e-12)


def test_the_mean_over_draws_is_the_vote_of_the_law() -> None:
    from sharpen.theory.optima.majority import winner_probabilities

    law, n, k = [0.5, 0.3, 0.2], 7, 4
    mean = 0.0
    for counts in itertools.product(range(n + 1), repeat=3):
        if sum(counts) == n:
            orders = math.factorial(n) / math.prod(math.factorial(c) for c in counts)
            chance = orders * math.prod(q**c for q, c in zip(law, counts, strict=True))
            mean += chance * float(maj_at_k(counts, [False, True, False], k))
    assert mean == pytest.approx(winner_probabilities(law, k)[1], rel=1e-12)


def test_shapes() -> None:
    assert pass_at_k(1, 4, 2).shape == ()
    assert pass_at_k([1, 2], [4, 5], 2).shape == (2,)
    assert pass_at_k(np.ones((3, 2)), 4, [1, 2, 3, 4]).shape == (3, 2, 4)
    assert pass_at_k([], 4, [1, 2]).shape == (0, 2)
    assert maj_at_k([1, 2], [True, False], 1).shape == ()
    assert maj_at_k(np.ones((3, 2, 5)), np.eye(5)[0], [1, 2]).shape == (3, 2, 2)
    assert pass_at_k([1, 2], [4, 5], 2).tolist() == [float(pass_at_k(1, 4, 2)), float(pass_at_k(2, 5, 2))]


def test_a_vote_of_more_samples_than_floats_can_count() -> None:
    counts = [900, 700]
    assert maj_at_k(counts, [True, False], 3) == pytest.approx(
        1 - (math.comb(700, 3) + math.comb(700, 2) * 900) / math.comb(1600, 3), rel=1e-14
    )


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("correct", (-1, 4, 1)),
        ("correct", (5, 4, 1)),
        ("correct", (0.5, 4, 1)),
        ("correct", (float("nan"), 4, 1)),
        ("correct", (["x"], 4, 1)),
        ("correct", ([1, 2, 3], [4, 4], 1)),
        ("n", (0, 0, 1)),
        ("k", (1, 4, 0)),
        ("k", (1, [4, 3], 4)),
        ("k", (1, 4, [[1]])),
        ("k", (1, 4, 1.5)),
    ],
)
def test_bad_counts_of_pass_at_k(field: str, arguments: tuple) -> None:
    with pytest.raises(InputError, match=f"^{field}: got"):
        pass_at_k(*arguments)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("counts", (3, True, 1)),
        ("counts", ([], [], 1)),
        ("counts", ([-1, 2], [True, False], 1)),
        ("correct", ([1, 2], [2, 0], 1)),
        ("correct", ([1, 2], [True, False, True], 1)),
        ("k", ([1, 2], [True, False], 4)),
        ("k", ([[1, 2], [1, 1]], [True, False], [3])),
    ],
)
def test_bad_counts_of_maj_at_k(field: str, arguments: tuple) -> None:
    with pytest.raises(InputError, match=f"^{field}: got"):
        maj_at_k(*arguments)
