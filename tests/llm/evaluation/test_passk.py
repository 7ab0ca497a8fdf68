"""pass@k and maj@k against enumeration of every subset and every order."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.llm.evaluation.passk import answers_maj_at_k
from sharpen.objective import InputError
from sharpen.objective.counts import pass_at_k

samples = st.lists(st.sampled_from(["right", "a", "b", None]), min_size=1, max_size=6)


def majority(order: tuple[str | None, ...]) -> str | None:
    counts = Counter(order)
    return next(answer for answer in order if counts[answer] == max(counts.values()))


@settings(deadline=None)
@given(samples, st.data())
def test_both_equal_the_average_over_every_ordered_subset(answers: list[str | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(answers)))
    correct = [answer == "right" for answer in answers]
    orders = list(itertools.permutations(answers, k))
    assert pass_at_k(sum(correct), len(answers), k) == pytest.approx(sum("right" in o for o in orders) / len(orders))
    won = sum(majority(order) == "right" for order in orders)
    assert answers_maj_at_k(answers, correct, k) == pytest.approx(won / len(orders))


def test_two_right_answers_written_differently_are_two_classes() -> None:
    assert answers_maj_at_k(["1/2", "0.5", "7", "7"], [True, True, False, False], 4) == 0.0
    assert answers_maj_at_k(["1/2", "0.5"], [True, True], 2) == 1.0


def test_wide_groups_stay_exact() -> None:
    assert answers_maj_at_k(["y"] * 9 + ["n"] * 7, [True] * 9 + [False] * 7, 16) == 1.0
    assert pass_at_k(1, 10_000, 10_000) == 1.0


@pytest.mark.parametrize("k", [0, 3, -1])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(InputError, match="k: got"):
        pass_at_k(1, 2, k)
    with pytest.raises(InputError, match="k: got"):
        answers_maj_at_k(["a", "b"], [True, False], k)


def test_contradictory_marks_are_refused() -> None:
    with pytest.raises(ValueError, match="one mark"):
        answers_maj_at_k(["a", "a"], [True, False], 1)
