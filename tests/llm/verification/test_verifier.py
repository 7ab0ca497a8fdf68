"""The verifier's judgement against math-verify itself, exact fractions, and brute force over braces."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.llm.tasks.embedded import Mixture, draw_response, problems
from sharpen.llm.tasks.verification import verify as module
from sharpen.llm.tasks.verification.verify import Verifier, final_answer, verify, vote
from sharpen.llm.tasks.verification.worker import RIGHT, math_verify
from sharpen.objective import InputError

CASES = [
    (r"\boxed{98}", "98", 1.0),
    (r"\boxed{ 098 }", "98", 1.0),
    (r"\boxed{+98}", "98", 1.0),
    (r"\boxed{-0}", "0", 1.0),
    (r"\boxed{-98}", "98", 0.0),
    (r"\boxed{89}", "98", 0.0),
    (r"first \boxed{1}, then \boxed{98}", "98", 1.0),
    (r"first \boxed{98}, then \boxed{1}", "98", 0.0),
    (r"\boxed{98} and an unclosed \boxed{1", "98", 1.0),
    (r"\boxed{\frac{1}{2}}", "0.5", 1.0),
    (r"\boxed{0.5}", r"\frac{1}{2}", 1.0),
    (r"\boxed{x^2+2x+1}", r"(x+1)^2", 1.0),
    (r"\boxed{\left(3, \frac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)", 1.0),
    (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", 1.0),
    (r"\boxed{\text{Carla}}", r"\text{Evelyn}", 0.0),
    ("the answer is 98", "98", 1.0),
    ("the answer is 97", "98", 0.0),
    ("", "98", 0.0),
    (r"\boxed{}", "98", 0.0),
    ("98", r"\boxed{98}", 1.0),
    (r"\boxed{}", "", 0.0),
    ("anything", "", 0.0),
    ("", "", 0.0),
]
INTEGERS = ["007", "+7", " 7 ", "7", "-7", "- 7", "-0", "+0", "12345678901234567890", "12345678901234567891"]
anything = st.text(st.characters(exclude_categories=()), max_size=80)  # lone surrogates and controls too


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(workers=1) as shared:
        yield shared


def test_cases(verifier: Verifier) -> None:
    responses, golds, expected = zip(*CASES, strict=True)
    assert verifier(responses, golds) == list(expected)
    assert [verify(response, gold) for response, gold, _ in CASES[:10]] == list(expected[:10])


def test_integers_are_compared_as_math_verify_compares_them(verifier: Verifier) -> None:
    pairs = [(left, right) for left in INTEGERS for right in INTEGERS]
    judged = verifier([f"\\boxed{{{left}}}" for left, _ in pairs], [right for _, right in pairs])
    assert judged == [float(math_verify(left, right) == RIGHT) for left, right in pairs]


@settings(max_examples=50)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_the_integer_path_agrees_with_math_verify(left: int, right: int) -> None:
    for other in (left, right):
        assert verify(f"\\boxed{{{left}}}", str(other)) == float(math_verify(str(left), str(other)) == RIGHT)


def test_fractions_are_equal_exactly_when_their_values_are(verifier: Verifier) -> None:
    rng = random.Random(0)
    pairs = [(Fraction(rng.randint(-9, 9), rng.randint(2, 12)), rng.randint(1, 4)) for _ in range(40)]
    others = [value if rng.random() < 0.5 else Fraction(rng.randint(-9, 9), rng.randint(2, 12)) for value, _ in pairs]
    responses = [f"\\boxed{{\\frac{{{k * v.numerator}}}{{{k * v.denominator}}}}}" for v, k in pairs]
    golds = [f"{other.numerator}/{other.denominator}" for other in others]
    expected = [float(value == other) for (value, _), other in zip(pairs, others, strict=True)]
    assert 0 < sum(expected) < len(expected)
    assert verifier(responses, golds) == expected


@given(st.lists(anything, min_size=1, max_size=20))
@settings(max_examples=20)
def test_no_text_raises(texts: list[str]) -> None:
    boxed = [f"\\boxed{{{text}}}" for text in texts]
    assert set(module._shared()([*texts, *boxed], ["98"] * 2 * len(texts))) <= {0.0, 1.0}
    assert set(module._shared()(["98"] * len(texts), texts)) <= {0.0, 1.0}


def test_what_is_no_text_scores_zero(verifier: Verifier) -> None:
    assert verifier([None, 3, b"7"], ["7", "3", "7"]) == [0.0, 0.0, 0.0]  # type: ignore[list-item]


def test_counts_tell_every_answer_once() -> None:
    with Verifier(workers=1) as verifier:
        half = r"\boxed{\frac{1}{2}}"
        asked = [(half, "0.5"), (half, "0.5"), (half, "2"), (r"\boxed{7}", "7"), (r"\boxed{8}", "7"), ("", "7")]
        verifier(*zip(*asked, ("1", "9" * 1001), strict=True))
        verifier([half], ["0.5"])
    expected = {"right": 1, "wrong": 1, "cached": 2, "direct": 2, "no_answer": 1, "too_long": 1}
    assert verifier.counts == {"answers": 8, **expected}


def test_boxed_integers_start_no_process() -> None:
    rng = random.Random(0)
    drawn = [(draw_response(p, Mixture(), rng), str(p.answer())) for p in problems("train", 96)]
    boxed = [(response, gold) for response, gold in drawn if final_answer(response) is not None]
    with Verifier() as verifier:
        rewards = verifier(*zip(*boxed, strict=True))
        assert rewards == [float(final_answer(response) == gold) for response, gold in boxed]
        assert 0 < sum(rewards) < len(rewards)
        assert verifier._pool.server is None


def test_lengths_that_differ_are_refused(verifier: Verifier) -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        verifier(["a", "b"], ["1"])


@pytest.mark.parametrize(("name", "given"), [("workers", 0), ("limit", 0.0), ("limit", float("nan"))])
def test_settings_out_of_range(name: str, given: float) -> None:
    with pytest.raises(InputError, match=f"{name}: got {given}"):
        Verifier(**{name: given})  # type: ignore[arg-type]


def test_several_threads_share_one_verifier(verifier: Verifier) -> None:
    found: dict[int, list[float]] = {}

    def ask(number: int) -> None:
        found[number] = verifier([f"\\boxed{{\\frac{{{number}}}{{{d}}}}}" for d in (7, 11)], [f"{number}/7"] * 2)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [1.0, 0.0] for number in range(1, 7)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1", None),
        (r"\boxed 1", None),
        (r"\boxed{a \boxed{b} c}", "b"),
        ("nothing", None),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


def last_box_by_trying(text: str) -> str | None:
    """Try every box from the last, and every end of it from the nearest, as the definition says."""
    for start in range(len(text), -1, -1):
        if not text.startswith(r"\boxed{", start):
            continue
        inside = start + len(r"\boxed{")
        for end in range(inside, len(text)):
            content = text[inside:end].replace(r"\{", "").replace(r"\}", "")
            if text[end] == "}" and not text[inside:end].endswith("\\") and content.count("{") == content.count("}"):
                if text[inside:end].replace(r"\boxed", "").strip("{}"):
                    return text[inside:end]
                break  # an empty box is no answer
    return None


@given(st.lists(st.sampled_from([r"\boxed{", "{", "}", r"\{", r"\}", "a"]), max_size=14))
def test_final_answer_is_the_last_complete_box(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert final_answer(text) == last_box_by_trying(text)


def test_votes() -> None:
    assert [vote(f"\\boxed{{{text}}}") for text in ("007", " 7", "x\n+ 1", "", " ")] == ["7", "7", "x + 1", None, None]
