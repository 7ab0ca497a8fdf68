"""Tasks that are made of pairs of problem and answer: from a list in Python, or from a user's function."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sharpen.llm.tasks.answers.comparisons import Comparison
from sharpen.llm.tasks.answers.finders import Finder
from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.llm.tasks.data import AnswerKey, PromptSet, Score, answer_of, numbered
from sharpen.llm.tasks.registry import Judgement, judgement_of
from sharpen.llm.tasks.seal import refuse_if_sealed
from sharpen.llm.tasks.templates import Template, name_of
from sharpen.objective import InputError
from sharpen.objective.settings import as_name

PREFIX = "list:"
Pair: TypeAlias = tuple[str, str | tuple[str, ...]]
_held: dict[str, Listed] = {}


class Listed(NamedTuple):
    """A task that is a list in this process; made by :func:`problems`.

    Every split is the whole list, unless ``splits`` has others.

    Args:
        name: What messages call it.
        splits: Pairs of problem and answer by split.
        template: Its prompt template, by name or as it is; None takes the model's.
        score: Of a response and an answer, in [0, 1]; None: found answers are compared.
        find: Finder of answers; see :class:`sharpen.llm.tasks.registry.Task`, as for the two below.
        compare: Comparison of answers.
        threshold: Score that counts as right.
    """

    name: str
    splits: Mapping[str, tuple[Pair, ...]]
    template: str | Template | Callable[[str], Any] | None = None
    score: Score | None = None
    find: Finder | str | None = None
    compare: Comparison | str | None = None
    threshold: float | None = None

    def __call__(self, split: str, limit: int | None = None) -> PairSource:
        """Return a part of the list; see :class:`sharpen.llm.tasks.registry.Task`."""
        if split not in self.splits:
            raise InputError("split", split, ", ".join(self.splits))
        return PairSource(self.name, lambda: self.splits[split][:limit])


class PairSource:
    """A data source over pairs of problem and answer, which are asked for anew at each call and not kept.

    Args:
        name: What messages call it.
        read: Returns the pairs.
    """

    def __init__(self, name: str, read: Callable[[], Sequence[Pair]]) -> None:
        self._name, self._read = name, read

    def prompts(self) -> PromptSet:
        """Return the problems."""
        return numbered(self._name, [text for text, _ in pairs(self._read(), self._name)])

    def answers(self) -> AnswerKey:
        """Return the answers.

        Raises:
            InputError: there are none, all being empty.
        """
        refuse_if_sealed(self._name)
        every = pairs(self._read(), self._name)
        if not any(one.strip() for _, answer in every for one in ([answer] if isinstance(answer, str) else answer)):
            raise InputError("data", self._name, "problems with answers")
        names = [prompt.id for prompt in numbered(self._name, [text for text, _ in every]).prompts]
        return AnswerKey(dict(zip(names, (answer for _, answer in every), strict=True)))

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return nothing: pairs have no categories."""
        return {}


def problems(
    given: Iterable[tuple[str, Any]],
    *,
    name: str = "problems",
    validation: Iterable[tuple[str, Any]] | None = None,
    test: Iterable[tuple[str, Any]] | None = None,
    template: str | Template | Callable[[str], Any] | None = None,
    score: Score | None = None,
    find: Finder | str | None = None,
    compare: Comparison | str | None = None,
    threshold: float | None = None,
) -> Listed:
    """Return a task of pairs of problem and answer.

    Args:
        given: The problems to train on; answers may be numbers, or lists of several right ones.
        name: What messages call it.
        validation: Problems that choose the best checkpoint; None: ``test``, or else the same.
        test: Problems that are reported; None: the same.
        template: Its prompt template, by name or as it is; None takes the model's.
        score: Of a response and an answer, in [0, 1]; None: found answers are compared.
        find: Finder of answers, a name or a function; None: a box, or what is stated as the answer.
        compare: Comparison of answers, a name or a function; None: the verifier of mathematics.
        threshold: Score from which a response counts as right in pass@k; None: 1.

    Raises:
        InputError: there are none, or one is no pair of a text and an answer.

    Example:
        >>> task = problems([("2+2=?", 4), ("3+4=?", "7")])
        >>> [prompt.text for prompt in task("train").prompts().prompts]
        ['2+2=?', '3+4=?']
        >>> list(task("train", 1).answers().values())
        ['4']
    """
    train = pairs(given, name)
    asked = train if test is None else pairs(test, name)
    chosen = asked if validation is None else pairs(validation, name)
    splits = {"train": train, "validation": chosen, "test": asked}
    task = Listed(name, splits, template, score, find, compare, threshold)
    judgement_of(task)
    return task


def pairs(given: object, name: str) -> tuple[Pair, ...]:
    """Return pairs of a problem's text and its answer, or its several right answers.

    Raises:
        InputError: it is something else, or there are none.
    """
    wanted = "pairs of a problem's text and its answer, at least one"
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InputError("problems", f"{name}: {type(given).__name__}", wanted)
    found = []
    for number, pair in enumerate(given, start=1):
        whole = isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str) and pair[0].strip()
        answer = answer_of(pair[1]) if whole else None
        if answer is None:
            raise InputError("problems", f"{name}: {type(pair).__name__} in place {number}", wanted)
        found.append((pair[0], answer))
    if not found:
        raise InputError("problems", f"{name}: none", wanted)
    return tuple(found)


def hold(task: Listed) -> str:
    """Let a configuration name a list of this process, and return its name there: the list's and a hash of its content.

    A run with other problems, template or form of answers is another run. Another process does not know the name.

    Example:
        >>> hold(problems([("2+2=?", 4)], name="mine"))
        'list:mine-4654b2d7'
    """
    content: dict[str, Any] = {split: list(each) for split, each in sorted(task.splits.items())}
    how = judgement_of(task)
    if how is not None and how != Judgement(AnswerForm(), task.score, 1.0):  # responses are judged otherwise
        content |= {"judged": [*how.form.names().values(), how.threshold]}
    if task.template is not None:
        content |= {"template": name_of(task.template)}
    spec = f"{PREFIX}{as_name(task.name)}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}"
    _held[spec] = task
    return spec


def held(spec: str) -> Listed:
    """Return the list that :func:`hold` was given.

    Raises:
        InputError: this process has no such list.
    """
    if spec not in _held:
        raise InputError("data", spec, f"a list of problems given in this process ({', '.join(_held) or 'none'})")
    return _held[spec]
