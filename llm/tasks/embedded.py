r"""Sums of three two-digit numbers and the ways in which the corpus answers them.

The mixture makes likelihood and correctness disagree. The likeliest single text for most problems is short and wrong:

- ``direct``: the answer at once, ``\boxed{98}``. Nine times in ten the writer forgets the last number.
- ``chain``: one partial sum, then the total: ``23+58=81;81+17=98;\boxed{98}``. Each of the two sums slips now and then.
- ``careful``: tens and units added one by one, never wrong.
- ``abstain``: ``?`` and nothing more.

So the mode of the corpus is the direct answer without the last number, with nearly half of all probability; the
likeliest chain has a quarter. A policy that only sharpens its likelihood ends in the mode; the task reward leads to
chains.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

SMALLEST, LARGEST = 10, 99
EOS, PAD = "<eos>", "<pad>"
BOXED = "\\boxed{"


class Split(NamedTuple):
    """A share of all problems.

    Args:
        first: First of the hundred hash buckets that it owns.
        last: Last one.
        default_count: Problems unless the caller says how many.
    """

    first: int
    last: int
    default_count: int


# A problem's bucket depends on its numbers only, so no order of them stands in two splits.
SPLITS = {"train": Split(0, 89, 8192), "validation": Split(90, 94, 512), "test": Split(95, 99, 1024)}


@dataclass(frozen=True)
class Mixture:
    """How often the corpus answers in each way; the rest abstains.

    Args:
        direct: Share of direct answers.
        chain: Share of chains.
        careful: Share of careful chains.
        forget: Share of direct answers that leave the last number out.
        slip: Chance that one sum of a chain is off by 1 or 10.
    """

    direct: float = 0.50
    chain: float = 0.28
    careful: float = 0.14
    forget: float = 0.90
    slip: float = 0.05

    stored: ClassVar[str] = "float32"  # dtype of the weights that are kept

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Return a training problem's text and an answer of the mixture."""
        problem = draw_problem("train", rng)
        return problem.text, draw_response(problem, self, rng)


@dataclass(frozen=True)
class Problem:
    """The sum of three numbers."""

    numbers: tuple[int, int, int]

    @property
    def text(self) -> str:
        """The problem as it is asked.

        Example:
            >>> Problem((23, 58, 17)).text
            '23+58+17=?'
        """
        return "+".join(map(str, self.numbers)) + "=?"

    def answer(self) -> int:
        """Return the sum."""
        return sum(self.numbers)

    def answer_without_last(self) -> int:
        """Return the sum of the first two numbers.

        Example:
            >>> Problem((23, 58, 17)).answer_without_last()
            81
        """
        return sum(self.numbers[:2])

    def bucket(self) -> int:
        """Return the hash bucket, 0 to 99, the same for every order of the numbers."""
        return bucket_of(self.numbers)


def bucket_of(numbers: Iterable[int]) -> int:
    """Return the hash bucket of a sum, 0 to 99, the same for every order of its numbers."""
    digest = hashlib.sha256(repr(sorted(numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100


def draw_problem(split: str, rng: random.Random) -> Problem:
    """Return a random problem of a split."""
    owned = SPLITS[split]
    while True:
        problem = Problem(tuple(rng.randint(SMALLEST, LARGEST) for _ in range(3)))  # type: ignore[arg-type]
        if owned.first <= problem.bucket() <= owned.last:
            return problem


def problems(split: str, count: int, seed: int = 0) -> list[Problem]:
    """Return ``count`` different problems of a split, the same for the same seed.

    Example:
        >>> problems("test", 2) == problems("test", 3)[:2]
        True
    """
    return list(_drawn(split, count, seed))


@lru_cache(maxsize=16)  # a run asks for its problems, for their answers, and once more for what it is measured on
def _drawn(split: str, count: int, seed: int) -> tuple[Problem, ...]:
    rng = random.Random(f"{split}/{seed}")
    found: dict[Problem, None] = {}
    while len(found) < count:
        found[draw_problem(split, rng)] = None
    return tuple(found)


def draw_response(problem: Problem, mixture: Mixture, rng: random.Random) -> str:
    """Return one of the corpus's answers to a problem, without the end-of-sequence token."""
    place = rng.random()
    if place < mixture.direct:
        return direct(problem, complete=rng.random() >= mixture.forget)
    if place < mixture.direct + mixture.chain:
        return chain(problem, _slip(mixture.slip, rng), _slip(mixture.slip, rng))
    if place < mixture.direct + mixture.chain + mixture.careful:
        return careful(problem)
    return "?"


def direct(problem: Problem, complete: bool) -> str:
    r"""Return the answer at once.

    Example:
        >>> direct(Problem((23, 58, 17)), complete=False)
        '\\boxed{81}'
    """
    return boxed(problem.answer() if complete else problem.answer_without_last())


def chain(problem: Problem, first_slip: int = 0, second_slip: int = 0) -> str:
    r"""Return one partial sum and the total, each off by its slip.

    Example:
        >>> chain(Problem((23, 58, 17)))
        '23+58=81;81+17=98;\\boxed{98}'
    """
    a, b, c = problem.numbers
    partial = a + b + first_slip
    total = partial + c + second_slip
    return f"{a}+{b}={partial};{partial}+{c}={total};{boxed(total)}"


def careful(problem: Problem) -> str:
    r"""Return four partial sums, tens before units.

    Example:
        >>> careful(Problem((23, 58, 17)))
        '23+50=73;73+8=81;81+10=91;91+7=98;\\boxed{98}'
    """
    total, steps = problem.numbers[0], []
    for number in problem.numbers[1:]:
        for part in (number - number % 10, number % 10):
            steps.append(f"{total}+{part}={total + part};")
            total += part
    return "".join(steps) + boxed(total)


def boxed(answer: int) -> str:
    """Return the final answer as the verifier reads it."""
    return f"{BOXED}{answer}}}"


def style_of(response: str) -> str:
    """Return which way of answering a response follows, or ``other``."""
    if response == "?":
        return "abstain"
    if not response.endswith("}") or response.count(BOXED) != 1:
        return "other"
    return {0: "direct", 2: "chain", 4: "careful"}.get(response.count(";"), "other")


def _slip(chance: float, rng: random.Random) -> int:
    return rng.choice((-10, -1, 1, 10)) if rng.random() < chance else 0
