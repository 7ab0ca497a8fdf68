"""The tasks of the family: what each asks, what is right, and which problems are the same thing asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from typing import Any

from sharpen.llm.common.parts import digest
from sharpen.llm.tasks.words.lists import families, listed, opposites, words

Fact = tuple[Any, ...]  # what a problem is made of: numbers or words
DRAWN = 2000  # problems of a task that has too many of them to go through


@dataclass(frozen=True)
class Kind:
    """One task.

    Args:
        facts: Yields what its problems are made of, each once, always in one order.
        ask: The text of a problem.
        answer: The right answer, or several.
        examples: Four facts that a prompt shows; they are problems of no part.
        same: What stands for a fact among those that give each other away: they go to one part together. None: the
            fact is alone.
        compare: The comparison of answers, see :data:`sharpen.llm.tasks.answers.comparisons.COMPARISONS`.
        user: How a raw completion asks.
        about: The task in a few words.
    """

    facts: Callable[[], Iterator[Fact]]
    ask: Callable[..., str]
    answer: Callable[..., str | tuple[str, ...]]
    examples: tuple[Fact, Fact, Fact, Fact]
    same: Callable[..., object] | None = None
    compare: str = "words"
    user: str = "Question: {problem} Answer:"
    about: str = ""

    def key(self, fact: Fact) -> str:
        """Return what decides on a fact's part, as a text."""
        return repr(fact if self.same is None else self.same(*fact))


def _each(values: Callable[[], Any]) -> Iterator[Fact]:
    return ((value,) for value in values())


def _triples() -> Iterator[Fact]:
    every = (tuple(1 + digest("largest-of-three", n, place) % 99 for place in range(3)) for n in range(2 * DRAWN))
    return iter([fact for fact in dict.fromkeys(every) if len(set(fact)) == 3][:DRAWN])


def _sentences() -> Iterator[Fact]:
    known = words()
    every = (tuple(known[digest("last-word", n, place) % len(known)] for place in range(4)) for n in range(2 * DRAWN))
    return iter([fact for fact in dict.fromkeys(every) if len(set(fact)) == 4][:DRAWN])


def _unordered(*values: int) -> tuple[int, ...]:
    return tuple(sorted(values))


def _knowledge(name: str, question: str, examples: tuple[str, str, str, str], about: str) -> Kind:
    return Kind(
        facts=lambda: _each(lambda: listed(name)),
        ask=question.format,
        answer=lambda word: listed(name)[word],
        examples=tuple((word,) for word in examples),  # type: ignore[arg-type]
        about=about,
    )


_DIGITS = partial(range, 10)
KINDS: dict[str, Kind] = {
    "antonyms": Kind(
        facts=lambda: _each(opposites),
        ask="What is the opposite of {}?".format,
        answer=lambda word: opposites()[word],
        same=lambda word: families()[word],
        examples=(("alive",), ("up",), ("hot",), ("left",)),
        about="opposites of words",
    ),
    "capitals": _knowledge(
        "capitals", "What is the capital of {}?", ("Spain", "Kenya", "Japan", "Peru"), "capitals of countries"
    ),
    "past-tense": _knowledge(
        "past-tense", "What is the past tense of the verb {}?", ("walk", "sing", "take", "hope"), "past of verbs"
    ),
    "plurals": _knowledge("plurals", "What is the plural of {}?", ("dog", "city", "tooth", "box"), "plurals of nouns"),
    "first-letter": Kind(
        facts=lambda: _each(words),
        ask="What is the first letter of the word {}?".format,
        answer=lambda word: word[0],
        examples=(("garden",), ("table",), ("music",), ("happy",)),
        about="the first letter of a word",
    ),
    "last-word": Kind(
        facts=_sentences,
        ask=lambda *four: f"What is the last word of: {' '.join(four)}?",
        answer=lambda *four: four[-1],
        examples=(
            ("river", "open", "teacher", "green"),
            ("seven", "paper", "walk", "moon"),
            ("cold", "music", "bread", "run"),
            ("sister", "yellow", "jump", "house"),
        ),
        about="the last of four words",
    ),
    "next": Kind(
        facts=lambda: _each(partial(range, 1, 500)),
        ask=lambda a: f"What number comes next: {a}, {a + 1}, {a + 2}?",
        answer=lambda a: str(a + 3),
        examples=((5,), (31,), (78,), (204,)),
        compare="number",
        about="the number after three that follow each other",
    ),
    "larger": Kind(
        facts=lambda: permutations(range(1, 100), 2),
        ask="Which number is larger: {} or {}?".format,
        answer=lambda a, b: str(max(a, b)),
        same=_unordered,
        examples=((23, 71), (88, 40), (5, 62), (97, 19)),
        compare="number",
        about="the larger of two numbers below 100",
    ),
    "largest-of-three": Kind(
        facts=_triples,
        ask="max({}, {}, {})".format,
        answer=lambda *three: str(max(three)),
        same=_unordered,
        examples=((99, 6, 25), (12, 47, 31), (8, 54, 90), (36, 73, 2)),
        compare="number",
        user="{problem} =",
        about="the largest of three different numbers below 100",
    ),
    "parity": Kind(
        facts=lambda: _each(partial(range, 1, 1000)),
        ask="Is {} odd or even?".format,
        answer=lambda n: ("even", "odd")[n % 2],
        examples=((47,), (12,), (630,), (255,)),
        about="whether a number below 1000 is odd or even",
    ),
    "sums": Kind(
        facts=lambda: product(_DIGITS(), repeat=2),
        ask="What is {} + {}?".format,
        answer=lambda a, b: str(a + b),
        same=_unordered,
        examples=((3, 4), (8, 1), (2, 9), (6, 0)),
        compare="number",
        about="sums of two digits",
    ),
    "differences": Kind(
        facts=lambda: ((a, b) for a, b in product(_DIGITS(), repeat=2) if a >= b),
        ask="What is {} - {}?".format,
        answer=lambda a, b: str(a - b),
        examples=((7, 3), (9, 8), (5, 0), (6, 4)),
        compare="number",
        about="differences of two digits, none below 0",
    ),
    "products": Kind(
        facts=lambda: product(_DIGITS(), repeat=2),
        ask="What is {} * {}?".format,
        answer=lambda a, b: str(a * b),
        same=_unordered,
        examples=((3, 4), (8, 2), (7, 1), (5, 9)),
        compare="number",
        about="products of two digits",
    ),
    "two-digits-plus-one": Kind(
        facts=lambda: product(range(10, 100), range(1, 10)),
        ask="What is {} + {}?".format,
        answer=lambda a, b: str(a + b),
        examples=((42, 5), (17, 8), (63, 3), (88, 9)),
        compare="number",
        about="a number of two digits and one of one",
    ),
    "letters": Kind(
        facts=lambda: _each(words),
        ask="How many letters are in the word {}?".format,
        answer=lambda word: str(len(word)),
        examples=(("garden",), ("box",), ("music",), ("birthday",)),
        compare="number",
        about="the number of letters in a word",
    ),
}
