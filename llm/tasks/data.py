"""Problems and answers, kept apart.

A :class:`Prompt` has no field for an answer. A :class:`DataSource` opens prompts and answers by separate calls; what a
training run without a reward term holds is a :class:`PromptSet` and nothing that leads from it to the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sharpen.objective import InputError

Score = Callable[[str, str], float]  # of a response and the gold answer, in [0, 1]


@dataclass(frozen=True)
class Prompt:
    """One problem.

    Args:
        id: Unique in its data set; the key of the answer.
        text: The problem's statement.
    """

    id: str
    text: str


@dataclass(frozen=True)
class PromptSet:
    """The problems of a data set, in order.

    Args:
        name: Where they come from.
        prompts: At least one problem.
    """

    name: str
    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("data", self.name, "a data set with at least one problem")


def numbered(name: str, texts: Sequence[str]) -> PromptSet:
    """Return problems without ids of their own: an id is a hash of the text, with a number where a text comes again."""
    seen: dict[str, None] = {}
    for number, text in enumerate(texts, start=1):
        own = hashlib.sha256(text.encode()).hexdigest()[:16]
        while own in seen:
            own = f"{own}#{number}"
        seen[own] = None
    return PromptSet(name, tuple(Prompt(own, text) for own, text in zip(seen, texts, strict=True)))


class AnswerKey(Mapping[str, str]):
    """Gold answers by prompt id, with the way to score a response by one where the task has its own.

    Args:
        answers: The answers.
        score: The task's own; None: the verifier compares.
    """

    def __init__(self, answers: Mapping[str, str], score: Score | None = None) -> None:
        self._answers, self.score = dict(answers), score

    def __getitem__(self, prompt_id: str) -> str:
        return self._answers[prompt_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


class DataSource(Protocol):
    """A data set whose prompts and answers are opened separately."""

    def prompts(self) -> PromptSet:
        """Return the problems; never reads the answers further than to drop them."""
        ...

    def answers(self) -> AnswerKey:
        """Return the gold answers.

        Raises:
            InputError: the data set has none.
        """
        ...

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return ``subject`` and ``level`` by prompt id, where the data set names them; only evaluation asks."""
        return {}
