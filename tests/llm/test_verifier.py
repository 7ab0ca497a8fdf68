"""The verifier against math-verify itself, and against text that means harm."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.llm import verify as module
from sharpen.llm.tiny.corpus import Mixture, draw_response, problems
from sharpen.llm.verify import final_answer, verify


@pytest.mark.parametrize(
    ("response", "gold", "expected"),
    [
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
        ("the answer is 98", "98", 1.0),
        ("the answer is 97", "98", 0.0),
        ("", "98", 0.0),
        (r"\boxed{}", "98", 0.0),
        ("98", r"\boxed{98}", 1.0),
        (r"\boxed{}", "", 0.0),
        ("anything", "", 0.0),
    ],
)
def test_cases(response: str, gold: str, expected: float) -> None:
    assert verify(response, gold) == expected


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_the_integer_path_agrees_with_math_verify(left: int, right: int) -> None:
    for other in (left, right):
        assert verify(f"\\boxed{{{left}}}", str(other)) == module._compare(str(left), str(other), True)


INTEGERS = ["007", "+7", " 7 ", "7", "-7", "- 7", "-0", "+0", "12345678901234567890", "12345678901234567891"]


@pytest.mark.parametrize("prediction", INTEGERS)
@pytest.mark.parametrize("gold", INTEGERS)
def test_ways_to_write_an_integer_agree_with_math_verify(prediction: str, gold: str) -> None:
    assert verify(f"\\boxed{{{prediction}}}", gold) == module._compare(prediction, gold, True)


def test_a_training_step_of_the_embedded_model_verifies_quickly() -> None:
    verify("x", "7")  # imports math-verify
    rng, seconds = random.Random(0), []
    for start in range(0, 96, 32):  # other problems each time, so that the cache does not help
        asked = problems("train", 96)[start : start + 32]
        pairs = [(draw_response(p, Mixture(), rng), str(p.answer())) for p in asked for _ in range(8)]
        began = time.process_time()
        for response, gold in pairs:
            verify(response, gold)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.1  # measured: 5 to 20 ms for 256 responses


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    assert verify(text, "98") in (0.0, 1.0)
    assert verify(f"\\boxed{{{text}}}", "98") in (0.0, 1.0)


HOSTILE = [
    r"\boxed{9^{9^{9^{9^{9}}}}}",
    r"\boxed{" + "{" * 500 + "1" + "}" * 500 + "}",
    r"\boxed{" + "9" * 100_000 + "}",
    r"\boxed{\frac{" * 200 + "1" + "}{2}}" * 200,
    r"\boxed{10000000000!}",
    "\\boxed{\ud800}",
    "\\boxed{\x00}",
    "1/" * 5000,
]


@pytest.mark.parametrize("response", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_scores_zero_in_bounded_time(response: str) -> None:
    start = time.monotonic()
    assert verify(response, "98") == 0.0
    assert time.monotonic() - start < 4 * module.TIMEOUT  # two parses and a comparison, each limited


def test_it_works_off_the_main_thread() -> None:
    module._compare.cache_clear()
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(verify(r"\boxed{\frac{3}{6}}", "0.5")))
    thread.start()
    thread.join(timeout=60)
    assert found == [1.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1", None),
        (r"\boxed 1", None),
        ("nothing", None),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected
