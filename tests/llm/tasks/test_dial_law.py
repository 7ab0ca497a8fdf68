"""The law of the dial: what its table says, by counting, and against the closed form that the study predicts from."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sharpen.llm.tasks import load_source
from sharpen.llm.tasks.dial.kinds import KINDS
from sharpen.llm.tasks.dial.law import MEMBERS, STEP, Member
from sharpen.llm.tasks.dial.problems import BLOCK, problems
from sharpen.llm.tasks.verification.verify import verify
from sharpen.objective import InputError

ASKED = problems("test", 16)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_law_sums_to_one_and_its_answers_are_what_they_say(name: str) -> None:
    for problem in {one.kind_name(): one for one in ASKED}.values():
        found = list(MEMBERS[name].answers(problem))
        assert math.fsum(one.probability for one in found) == pytest.approx(1.0, abs=1e-12)
        assert len({one.text for one in found}) == len(found)
        by_right = {one.right: one.text for one in found}
        assert all(
            verify(text, str(problem.first + problem.second)) == float(right) for right, text in by_right.items()
        )
        right = math.fsum(one.probability for one in found if one.right)
        assert right == pytest.approx(KINDS[problem.kind_name()].right, abs=1e-12)
        for good, mass, short in (
            (True, right, MEMBERS[name].right_short),
            (False, 1 - right, MEMBERS[name].wrong_short),
        ):
            told = math.fsum(one.probability for one in found if one.right == good and one.short)
            assert told == pytest.approx(mass * short, abs=1e-12)
        assert all(one.short == (one.text.count(";") == 1) for one in found)


@given(st.sampled_from(sorted(MEMBERS)), st.floats(0.25, 8.0))
def test_the_closed_form_is_the_sum_over_all_answers(name: str, alpha: float) -> None:
    total = 0.0
    for problem in ASKED:
        told = [(one.probability**alpha, one.right) for one in MEMBERS[name].answers(problem)]
        total += math.fsum(mass for mass, right in told if right) / math.fsum(mass for mass, _ in told)
    assert MEMBERS[name].expected_reward(alpha) == pytest.approx(total / len(ASKED), rel=1e-9)


@pytest.mark.parametrize("name", MEMBERS)
def test_right_answers_are_likelier_by_the_dial_alone(name: str) -> None:
    member = MEMBERS[name]
    for kind in KINDS.values():
        if kind.right:
            gap = math.log(kind.right / member.spread(kind, True)) - math.log((1 - kind.right) / kind.wrong_spread)
            assert gap == pytest.approx(member.delta * STEP, abs=1e-12)


def test_the_dial_leaves_lengths_alone_and_the_corners_mirror_them() -> None:
    line = [MEMBERS[f"dial{delta}"] for delta in ("-1", "-0.5", "+0", "+0.5", "+1")]
    assert [member.delta for member in line] == [-1, -0.5, 0, 0.5, 1]
    assert all(member.right_short == member.wrong_short for member in line)
    corners = {name: member for name, member in MEMBERS.items() if member not in line}
    assert len(corners) == 4
    for name, member in corners.items():
        assert (member.delta > 0) == ("-right-" in name)
        assert (member.right_short > member.wrong_short) == name.endswith("short")
        assert member.right_short == pytest.approx(1 - member.wrong_short)


def test_what_is_drawn_follows_the_law() -> None:
    rng, member, kinds, right, short = random.Random(5), Member(1.0, 0.75, 0.25), Counter(), Counter(), Counter()
    for _ in range(6000):
        text, drawn = member.draw(rng)
        first, second = map(int, text.removesuffix("=?").split("+"))
        name = next(name for name, kind in KINDS.items() if first // 100 in kind.first_digits)
        good = drawn.endswith(f"{{{first + second}}}")
        kinds[name] += 1
        right[name] += good
        short[good] += drawn.count(";") == 1
    shares = [6000 * KINDS[name].share / BLOCK for name in kinds]
    assert scipy.stats.chisquare(list(kinds.values()), shares).pvalue > 1e-4
    for name, kind in KINDS.items():
        assert scipy.stats.binomtest(right[name], kinds[name], kind.right).pvalue > 1e-4
    good = sum(right.values())
    assert scipy.stats.binomtest(short[True], good, 0.75).pvalue > 1e-4
    assert scipy.stats.binomtest(short[False], 6000 - good, 0.25).pvalue > 1e-4


def test_problems_are_of_their_kinds_and_splits_are_disjoint() -> None:
    seen: dict[str, set[frozenset[int]]] = {}
    for split in ("train", "validation", "test"):
        asked = problems(split, 256)
        seen[split] = {frozenset((one.first, one.second)) for one in asked}
        assert Counter(one.kind_name() for one in asked) == {name: 16 * kind.share for name, kind in KINDS.items()}
        for one in asked:
            carries = one.first % 10 + one.second % 10 > 9
            assert carries == (one.kind_name() == "carry")
            assert 0 < one.answer() - one.answer_without_last() < 10
            assert one.answer() < 1000
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_the_task_names_each_problems_kind_and_refuses_what_it_has_not() -> None:
    source = load_source("dial", "test", 32)
    prompts = source.prompts().prompts
    assert [one.text for one in prompts] == [one.text for one in problems("test", 32)]
    assert {row["level"] for row in source.categories().values()} == set(KINDS)
    golds = source.answers()
    assert golds[prompts[0].id] == str(problems("test", 1)[0].answer())
    with pytest.raises(InputError, match="train, validation, test"):
        load_source("dial", "elsewhere")
    with pytest.raises(InputError, match="at most 1024"):
        load_source("dial", "test", 5000)
