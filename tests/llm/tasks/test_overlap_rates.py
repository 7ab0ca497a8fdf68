"""How often different problems are taken for one and one problem for two, on sets that are generated or real."""

from __future__ import annotations

import os
import random
import re
from itertools import product

import pytest

from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.tasks.overlap import overlap, set_apart
from sharpen.llm.tasks.problem_text import normalised
from sharpen.llm.tasks.sources import load_source

DATA = os.environ.get("SHARPEN_DATA_DIR")
# One sign in the ways in which it is written.
OPERATORS = [("+",), ("-", "−", "–"), ("×", r"\times ", r"\cdot ", "*", "·"), ("÷", r"\div ", "/"), ("^", "**")]
RELATIONS = [
    ("=",),
    ("<", r"\lt "),
    (">", r"\gt "),
    ("≤", r"\le ", r"\leq ", "<=", r"\leqslant "),
    ("≥", r"\ge ", r"\geq ", ">="),
    ("≠", r"\ne ", r"\neq ", " != "),
]
GROUPS = [("{0}",), ("({0})", r"\left({0}\right)"), ("|{0}|", r"\left|{0}\right|", r"\lvert {0}\rvert")]
GROUPS += [(r"\sqrt{{{0}}}",), (r"\lfloor {0}\rfloor",), ("[{0}]", r"\left[{0}\right]")]
UNITS = [("",), ("%", r"\%"), ("!",), ("^2", "^{2}", "²"), ("^{23}",), ("_3", "_{3}")]
NUMBERS = ["3", "12", "1.2", "30", "½"]
FRAMES = [
    ("Solve {0}.", "solve ${0}$", r"Solve  \({0}\).", "Solve\n$ {0} $ ."),
    ("Which x satisfy {0}?", "Which $x$ satisfy ${0}$ ?"),
]


def written(parts: tuple[tuple[str, ...], ...], number: str, rng: random.Random | None) -> str:
    """Write a problem, each sign in its first way or in a random one."""
    pick = (lambda ways: ways[0]) if rng is None else rng.choice
    frame, group, operator, relation, unit = (pick(ways) for ways in parts)
    gap = "" if rng is None else rng.choice(["", " ", r"\, ", "  "])
    inner = group.format(f"x{gap}{operator}{gap}{number}")
    return frame.format(f"{inner}{unit}{gap}{relation}{gap}7")


KINDS = [(parts, number) for *parts, number in product(FRAMES, GROUPS, OPERATORS, RELATIONS, UNITS, NUMBERS)]


def test_different_problems_are_never_one() -> None:
    """False rate 0 of 10,800 problems, all pairs of which differ in what they ask."""
    seen: dict[str, str] = {}
    merged = []
    for parts, number in KINDS:
        text = written(tuple(parts), number, None)
        other = seen.setdefault(normalised(text), text)
        if other is not text:
            merged.append((text, other))
    assert len(KINDS) == 10_800
    assert merged == []


def test_one_problem_is_never_two_however_it_is_written() -> None:
    rng = random.Random(0)
    apart = []
    for parts, number in rng.sample(KINDS, 1500):
        plain = written(tuple(parts), number, None)
        other = written(tuple(parts), number, rng)
        if normalised(plain) != normalised(other):
            apart.append((plain, other))
    assert apart == []


def test_templates_of_arithmetic_leave_the_training_set_only_where_they_are_shared() -> None:
    """4,000 training and 400 test problems of one template that share no text: none may leave, as 1,549 once did."""
    rng = random.Random(1)
    texts = list(
        dict.fromkeys(
            f"What is {rng.randint(2, 99)} {sign} {rng.randint(2, 9)}{close}?"
            for sign, close in (
                rng.choice([("×", ""), ("÷", ""), ("−", ""), ("% of", ""), ("· (2 +", ")")]) for _ in range(40_000)
            )
        )
    )
    rng.shuffle(texts)
    train = PromptSet("train", tuple(Prompt(f"a{i}", text) for i, text in enumerate(texts[400:3000])))
    test = PromptSet("test", tuple(Prompt(f"b{i}", text) for i, text in enumerate(texts[:400])))
    kept, (found,) = set_apart(train, [test])
    assert (found.same, found.shared, found.removed, len(kept.prompts)) == (0, 0, 0, 2600)
    shared = PromptSet("train", (*train.prompts, Prompt("c", texts[0].replace("?", " ?"))))
    kept, (found,) = set_apart(shared, [test])
    assert (found.same, found.removed) == (1, 1)
    assert kept.prompts == train.prompts


def rewritten(text: str, rng: random.Random) -> str:
    """Set a real problem differently, without a change of what it says."""
    changes = [
        (r"\\le(?![A-Za-z])", r"\\leq"),
        (r"\\frac(?=\{)", r"\\dfrac"),
        (r"\^(\d)(?!\d)", r"^{\1}"),
        (r"\\cdot(?![A-Za-z])", r"\\times"),
        (r"(?<=\d) ?- ?(?=\d)", " − "),
        (r"\n", " "),
    ]
    for pattern, new in changes:
        if rng.random() < 0.7 and "[asy]" not in text:
            text = re.sub(pattern, new, text)
    return text.rstrip(".") if rng.random() < 0.5 else text


@pytest.mark.skipif(DATA is None, reason="SHARPEN_DATA_DIR names no folder with the real files")
def test_real_problems_set_differently_are_found_and_others_are_not() -> None:
    rng = random.Random(0)
    real = load_source(f"{DATA}/math", "train").prompts()
    some = rng.sample(real.prompts, 1000)
    changed = PromptSet("changed", tuple(Prompt(p.id, rewritten(p.text, rng)) for p in some))
    assert sum(a.text != b.text for a, b in zip(some, changed.prompts, strict=True)) > 400
    found = overlap(real, changed)
    assert found.same == 1000
    by_text: dict[str, list[str]] = {}
    for prompt in real.prompts:
        by_text.setdefault(normalised(prompt.text), []).append(prompt.text)
    # The training part holds a few problems twice, set differently; read by eye, each is a true repetition.
    assert len(real.prompts) - len(by_text) <= 8
