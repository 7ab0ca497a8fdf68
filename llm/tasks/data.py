"""Problems and answers, kept apart.

A :class:`Prompt` has no field for an answer. A :class:`DataSource` opens prompts and answers by separate calls; what a
training run without a reward term holds is a :class:`PromptSet` and nothing that leads from it to the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from sharpen.objective import InputError


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


class AnswerKey(Mapping[str, str]):
    """Gold answers by prompt id.

    Args:
        answers: The answers.
    """

    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = dict(answers)

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
