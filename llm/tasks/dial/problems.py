"""Sums of two numbers of three digits, of five kinds that the first digit tells."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from sharpen.llm.tasks.data import AnswerKey, Prompt, PromptSet
from sharpen.llm.tasks.dial.kinds import KINDS, Kind
from sharpen.llm.tasks.embedded import SPLITS, bucket_of
from sharpen.objective import InputError

BLOCK = sum(kind.share for kind in KINDS.values())
DEFAULT = {"train": 2048, "validation": 128, "test": 128}  # problems unless the caller says how many
LARGEST_LAST = 3  # of the second number: a small model learns to add it in a thousand updates
MOST = 1024  # the rarest kind has about a hundred problems in the smaller splits


@dataclass(frozen=True)
class DialProblem:
    """The sum of two numbers, 111 to 888.

    Args:
        first: Its first digit tells the kind.
        second: Its last digit is 1, 2 or 3, in the kind that carries 1 to 9.
    """

    first: int
    second: int

    @property
    def text(self) -> str:
        """The problem as it is asked."""
        return f"{self.first}+{self.second}=?"

    def answer(self) -> int:
        """Return the sum."""
        return self.first + self.second

    def answer_without_last(self) -> int:
        """Return the sum without the second number's last digit: what a wrong answer says.

        Example:
            >>> DialProblem(123, 452).answer_without_last()
            573
        """
        return self.first + self.second - self.second % 10

    def kind_name(self) -> str:
        """Return the name of the kind.

        Example:
            >>> DialProblem(123, 452).kind_name()
            'easy'
        """
        return next(name for name, kind in KINDS.items() if self.first // 100 in kind.first_digits)

    def kind(self) -> Kind:
        """Return the kind."""
        return KINDS[self.kind_name()]

    def bucket(self) -> int:
        """Return the hash bucket, 0 to 99, the same for both orders of the numbers."""
        return bucket_of((self.first, self.second))


def draw_problem(split: str, kind_name: str, rng: random.Random) -> DialProblem:
    """Return a random problem of a kind and a split; which split a problem is in, its numbers tell."""
    kind, owned = KINDS[kind_name], SPLITS[split]
    while True:
        first = 100 * rng.choice(kind.first_digits) + rng.randrange(100)
        second = 100 * rng.randint(1, 9 - first // 100) + rng.randrange(100)
        tens, units = (first // 10 % 10) + (second // 10 % 10), first % 10 + second % 10
        small = second % 10 <= LARGEST_LAST and units <= 9 and tens <= 9
        fits = units > 9 and tens < 9 if kind.carries else small
        problem = DialProblem(first, second)
        if fits and second % 10 and owned.first <= problem.bucket() <= owned.last:
            return problem


def problems(split: str, count: int, seed: int = 0) -> list[DialProblem]:
    """Return different problems of a split, the same for the same seed; every sixteen have the kinds' exact shares.

    Example:
        >>> problems("test", 16) == problems("test", 32)[:16]
        True
    """
    rng = random.Random(f"dial/{split}/{seed}")
    found: dict[DialProblem, None] = {}
    while len(found) < count:
        names = [name for name, kind in KINDS.items() for _ in range(kind.share)]
        rng.shuffle(names)
        for name in names:
            problem = draw_problem(split, name, rng)
            while problem in found:
                problem = draw_problem(split, name, rng)
            found[problem] = None
    return list(found)[:count]


class DialSource:
    """Sums of two numbers in five difficulties, which the dial models answer by a stated law.

    Args:
        split: ``train``, ``validation`` or ``test``, disjoint by construction.
        limit: How many problems; None for the split's default.
    """

    def __init__(self, split: str, limit: int | None = None) -> None:
        if split not in DEFAULT:
            raise InputError("split", split, ", ".join(DEFAULT))
        if limit is not None and limit > max(MOST, DEFAULT[split]):
            raise InputError("problems", limit, f"at most {max(MOST, DEFAULT[split])} of the dial's {split} problems")
        self._name = f"dial/{split}"
        self._problems = problems(split, limit or DEFAULT[split])

    def prompts(self) -> PromptSet:
        """Return the problems; no sum has been computed."""
        return PromptSet(self._name, tuple(Prompt(problem.text, problem.text) for problem in self._problems))

    def answers(self) -> AnswerKey:
        """Return the sums."""
        return AnswerKey({problem.text: str(problem.answer()) for problem in self._problems})

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return each problem's kind as its ``level``."""
        return {problem.text: {"level": problem.kind_name()} for problem in self._problems}
