"""Votes by value: the same rule for right and wrong answers, whatever their order, in bounded work."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial

import pytest

from sharpen.llm.evaluation.passk import answers_maj_at_k
from sharpen.llm.evaluation.records import Record
from sharpen.llm.rewards.registry import Scoring
from sharpen.llm.rewards.text import majority
from sharpen.llm.tasks.verification.verify import Verifier, vote
from sharpen.llm.tasks.verification.voting import MOST_COMPARED, by_value


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(workers=1, limit=60.0) as shared:
        yield shared


class Table(Verifier):
    """A verifier that says what a table says, and counts what it was asked."""

    def __init__(self, equal: set[tuple[str, str]], undecided: Sequence[str] = ()) -> None:
        self.table, self.undecided, self.asked = equal, set(undecided), 0

    def equal(self, answers: Sequence[str], others: Sequence[str]) -> list[bool | None]:
        self.asked += len(answers)
        return [
            None if self.undecided & {one, other} else (one, other) in self.table
            for one, other in zip(answers, others, strict=True)
        ]


def partition(votes: Sequence[str | None], named: Sequence[str | None]) -> set[frozenset[str]]:
    classes: dict[str, set[str]] = {}
    for own, name in zip(votes, named, strict=True):
        if own is not None and name is not None:
            classes.setdefault(name, set()).add(own)
    return {frozenset(members) for members in classes.values()}


WRITTEN = ["2/3", r"\frac23", r"\frac{2}{3}", r"\dfrac{4}{6}", "⅔"]


def test_one_wrong_value_in_three_ways_beats_two_right_answers(verifier: Verifier) -> None:
    responses = [rf"\boxed{{{answer}}}" for answer in ("2/3", "7", r"\frac23", "7", r"\frac{2}{3}")]
    correct = [reward == 1 for reward in verifier(responses, ["7"] * 5)]
    (votes,) = by_value([[vote(text) for text in responses]], verifier)
    record = Record("p", None, None, responses, votes, correct, [1] * 5, [True] * 5)
    assert correct == [False, True, False, True, False]
    assert len(set(record.classes)) == 2
    assert answers_maj_at_k(record.classes, record.correct, 5) == 0.0
    turned = Record("p", None, None, responses, votes, [not good for good in correct], [1] * 5, [True] * 5)
    assert answers_maj_at_k(turned.classes, turned.correct, 5) == 1.0  # the same rule when those are right


def test_classes_are_those_of_exact_fractions_in_any_order(verifier: Verifier) -> None:
    rng = random.Random(0)
    values = [Fraction(rng.randint(-3, 3), rng.randint(1, 4)) for _ in range(14)]
    votes = [
        rng.choice(
            [
                str(v),
                rf"\frac{{{v.numerator * 2}}}{{{v.denominator * 2}}}",
                f"{float(v):g}" if v.denominator in (1, 2, 4) else str(v),
            ]
        )
        for v in values
    ]
    by_number: dict[Fraction, set[str]] = {}
    for value, text in zip(values, votes, strict=True):
        by_number.setdefault(value, set()).add(text)
    expected = {frozenset(texts) for texts in by_number.values()}
    assert partition(votes, by_value([votes], verifier)[0]) == expected
    for _ in range(3):
        rng.shuffle(votes)
        (named,) = by_value([votes], verifier)
        assert partition(votes, named) == expected
        first = {frozenset(c): next(v for v in votes if v in c) for c in expected}
        assert named == [next(first[c] for c in expected if v in c) for v in votes]


def test_either_direction_joins_and_chains_join() -> None:
    table = Table({("a", "b"), ("c", "b")})
    assert by_value([["a", "b", "c", None, "d"]], table) == [["a", "a", "a", None, "d"]]
    assert by_value([["c", "d", "b", "a"]], table) == [["c", "d", "c", "c"]]


def test_plain_integers_ask_nobody() -> None:
    table = Table(set())
    assert by_value([["1", "2", "1", None], ["-3"], []], table) == [["1", "2", "1", None], ["-3"], []]
    assert table.asked == 0


def test_the_work_is_bounded() -> None:
    texts = [f"x+{n}" for n in range(3 * MOST_COMPARED)]
    table = Table(set())
    assert by_value([texts], table) == [texts]
    assert table.asked == MOST_COMPARED * (MOST_COMPARED - 1)  # every pair of the first ones, in both directions
    slow = Table(set(), undecided=texts)
    assert by_value([texts], slow) == [texts]
    assert (
        slow.asked <= 3 * MOST_COMPARED
    )  # each is out after one pair that could not be decided, and a look at it alone


def test_answers_that_never_end_cost_a_few_limits_only() -> None:
    hostile = [rf"9^{{9^{{9^{{9^{{{n}}}}}}}}}" for n in range(7, 11)]
    with Verifier(workers=2, limit=0.5) as verifier:
        (named,) = by_value([[*hostile, "1/2", "0.5"]], verifier)
        assert named == [*hostile, "1/2", "1/2"]
        assert verifier.counts["timeouts"] + verifier.counts["crashes"] <= 4 * len(hostile)


def test_a_value_that_the_gold_answer_judges_in_two_ways_is_two_votes() -> None:
    record = Record("p", None, None, ["", ""], ["a", "a"], [True, False], [1, 1], [True, True])
    assert answers_maj_at_k(record.classes, record.correct, 2) == 0.5


def test_a_problem_drawn_twice_in_a_step_is_two_groups(verifier: Verifier) -> None:
    reward = partial(majority, verifier=verifier)
    texts = [rf"\boxed{{{answer}}}" for answer in ("1", "1", "2", "2", "2", "1")]
    names = ["p"] * 6
    assert reward(names, texts, Scoring(groups=[0, 0, 0, 1, 1, 1])) == [1, 1, 0, 1, 1, 0]
    assert reward(names, texts, Scoring()) == [1, 1, 0, 0, 0, 1]  # one group where nobody says that they are two


def test_the_majority_reward_counts_values(verifier: Verifier) -> None:
    reward = partial(majority, verifier=verifier)
    texts = [rf"\boxed{{{answer}}}" for answer in (*WRITTEN[:3], "7", "7")]
    assert reward(["p"] * 5, texts, Scoring()) == [1, 1, 1, 0, 0]
    cut = Scoring(finished=[False] * 2 + [True])
    assert reward(["p"] * 3, ["The answer is 7", "The answer is 7", "The answer is 8"], cut) == [0, 0, 1]
