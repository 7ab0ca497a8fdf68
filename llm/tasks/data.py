"""Problems and answers, kept apart.

A :class:`Prompt` has no field for an answer. A :class:`DataSource` opens prompts and answers by separate calls; what a
training run without a reward term holds is a :class:`PromptSet` and nothing that leads from it to the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.objective import InputError

BOXED = AnswerForm()  # of the mathematics tasks: a box, or what is stated as the answer, and the verifier
Score: TypeAlias = Callable[[str, str], float]  # of a response and a gold answer, in [0, 1]
# Of the ids of prompts, their responses, and whether each ended by itself (None: nobody knows), in [0, 1].
Mark: TypeAlias = Callable[[Sequence[str], Sequence[str], Sequence[bool] | None], Sequence[float]]


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
        form: Where the answer of a response is found, and how answers are compared; no label.
    """

    name: str
    prompts: tuple[Prompt, ...]
    form: AnswerForm = BOXED

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("data", self.name, "a data set with at least one problem")

    def only(self, prompts: Iterable[Prompt]) -> PromptSet:
        """Return some of the problems, with the same name and form."""
        return replace(self, prompts=tuple(prompts))


def numbered(name: str, texts: Sequence[str]) -> PromptSet:
    """Return problems without ids of their own: an id is a hash of the text, with a number where a text comes again."""
    seen: dict[str, None] = {}
    for number, text in enumerate(texts, start=1):
        own = hashlib.sha256(text.encode()).hexdigest()[:16]
        while own in seen:
            own = f"{own}#{number}"
        seen[own] = None
    return PromptSet(name, tuple(Prompt(own, text) for own, text in zip(seen, texts, strict=True)))


def answer_of(given: object) -> str | tuple[str, ...] | None:
    """Return a gold answer as it is kept: a text, or several texts that are all right; None if it is none of these.

    Args:
        given: A text, a number, or a list of them.

    Example:
        >>> answer_of(7), answer_of(["7"]), answer_of(["up", "above"]), answer_of([]), answer_of({"value": 7})
        ('7', '7', ('up', 'above'), '', None)
    """
    if isinstance(given, list | tuple):
        each = [answer_of(one) for one in given]
        if not all(isinstance(one, str) for one in each):
            return None
        several = tuple(one for one in dict.fromkeys(each) if isinstance(one, str) and one.strip())
        return several if len(several) > 1 else several[0] if several else ""
    if isinstance(given, str):
        return given
    return str(given) if isinstance(given, int | float) and not isinstance(given, bool) else None


class AnswerKey(Mapping[str, str | tuple[str, ...]]):
    """Gold answers by prompt id, with the way to score a response by them.

    Args:
        answers: The answer to each problem: a text, or several that are all right.
        score: The task's own, of a whole response and one gold answer; the best over the gold answers counts.
        form: Where answers are found and how they are compared, where neither ``score`` nor ``mark`` is given.
        mark: Scores many responses at once by their prompts' ids; goes before the others.
        threshold: Score from which a response counts as right in pass@k and maj@k, in (0, 1].

    Raises:
        InputError: the threshold is out of range.

    Example:
        >>> AnswerKey({"a": "4", "b": ("up", "above")}).every("b")
        ('up', 'above')
    """

    def __init__(
        self,
        answers: Mapping[str, str | tuple[str, ...]],
        score: Score | None = None,
        *,
        form: AnswerForm | None = None,
        mark: Mark | None = None,
        threshold: float = 1.0,
    ) -> None:
        if not 0 < threshold <= 1:
            raise InputError("task.threshold", threshold, "a number in (0, 1]")
        self._answers, self.score, self.mark, self.threshold = dict(answers), score, mark, threshold
        self.form = form or BOXED

    def __getitem__(self, prompt_id: str) -> str | tuple[str, ...]:
        return self._answers[prompt_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def every(self, prompt_id: str) -> tuple[str, ...]:
        """Return all right answers to one problem."""
        found = self._answers[prompt_id]
        return (found,) if isinstance(found, str) else tuple(found)

    def judged(self, score: Score | None, form: AnswerForm, threshold: float) -> AnswerKey:
        """Return the same answers with another task's way to score, except that ``mark`` stays."""
        return AnswerKey(self._answers, score or self.score, form=form, mark=self.mark, threshold=threshold)


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


def form_of(source: DataSource) -> AnswerForm:
    """Return the form of a source's answers, without opening its problems or its answers."""
    return getattr(source, "form", BOXED)
