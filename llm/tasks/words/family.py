"""The word family behind the doors: tasks by name, and the two templates of each."""

from __future__ import annotations

from types import SimpleNamespace

from sharpen.llm.common.parts import SHARES
from sharpen.llm.tasks.data import AnswerKey, Prompt, PromptSet, numbered
from sharpen.llm.tasks.seal import refuse_if_sealed
from sharpen.llm.tasks.templates import Template
from sharpen.llm.tasks.words.kinds import KINDS, Kind
from sharpen.llm.tasks.words.parts import facts_of
from sharpen.objective import InputError


class WordSource:
    """A part of a task of the family.

    Args:
        name: The task's.
        split: ``train``, ``validation`` or ``test``, disjoint by construction.
        limit: Only the first so many problems; None for all.

    Raises:
        InputError: there is no such split.
    """

    def __init__(self, name: str, split: str, limit: int | None) -> None:
        if split not in SHARES:
            raise InputError("split", split, ", ".join(SHARES))
        self._task, self._split, self._limit = name, split, limit

    def prompts(self) -> PromptSet:
        """Return the problems; no answer has been computed or looked up."""
        return PromptSet(self._name, tuple(self._asked()))

    def answers(self) -> AnswerKey:
        """Return the right answer of each problem, or its right answers."""
        refuse_if_sealed(self._name)
        answer = KINDS[self._task].answer
        return AnswerKey({prompt.id: answer(*fact) for prompt, fact in self._asked().items()})

    def categories(self) -> dict[str, dict[str, str]]:
        """Return nothing: all problems are of one kind."""
        return {}

    @property
    def _name(self) -> str:
        return f"{self._task}/{self._split}"

    def _asked(self) -> dict[Prompt, tuple[object, ...]]:
        facts = facts_of(self._task, self._split)[: self._limit]
        texts = [KINDS[self._task].ask(*fact) for fact in facts]
        return dict(zip(numbered(self._name, texts).prompts, facts, strict=True))


class WordTask:
    """A task of the family; see :class:`sharpen.llm.tasks.registry.Task`.

    Args:
        name: One of ``KINDS``, and of its template.
    """

    find = "first-line"

    def __init__(self, name: str) -> None:
        self.name = self.template = name
        self.compare, self.about = KINDS[name].compare, KINDS[name].about

    def __call__(self, split: str, limit: int | None = None) -> WordSource:
        """Return a part of the task."""
        return WordSource(self.name, split, limit)


def shown(kind: Kind) -> tuple[tuple[str, str], ...]:
    """Return the worked examples of a prompt: problems and their usual right answers."""
    answers = (kind.answer(*fact) for fact in kind.examples)
    firsts = (answer if isinstance(answer, str) else answer[0] for answer in answers)
    return tuple((kind.ask(*fact), first) for fact, first in zip(kind.examples, firsts, strict=True))


def raw(kind: Kind) -> Template:
    """Return the template of a raw completion: a line for each example, and the response is the rest of the last."""
    return Template(kind.user, examples=shown(kind), chat=False, stop=("\n",))


def turns(kind: Kind) -> Template:
    """Return the template of a conversation: each example is a turn of its own."""
    return Template("{problem}", examples=shown(kind))


def _object(name: str) -> str:
    return name.replace("-", "_")


# As attributes, by which the registries find them: ``family:tasks.past_tense``.
tasks = SimpleNamespace(**{_object(name): WordTask(name) for name in KINDS})
completions = SimpleNamespace(**{_object(name): raw(kind) for name, kind in KINDS.items()})
conversations = SimpleNamespace(**{_object(name): turns(kind) for name, kind in KINDS.items()})
