"""The door of tasks: what one is, and where those that are built in are found."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.llm.tasks.data import DataSource, Score
from sharpen.objective import InputError
from sharpen.objective.registry import Registry


@runtime_checkable
class Task(Protocol):
    """Problems with answers, and how a response is scored: what ``data`` names in a configuration.

    A function of ``split`` and ``limit`` is a task. It, or an object in its place, may have more attributes:

    - ``template``: the prompt template where a configuration names none: its name, or a template itself
      (:mod:`sharpen.llm.tasks.templates`); missing or None: the model's.
    - ``about``: one line for ``sharpen llm tasks``; missing or None: the first of its docstring.
    - ``find``: where a response's answer stands: a finder's name (:data:`sharpen.llm.tasks.answers.finders.FINDERS`) or
      a function of its text that returns the answer or None; missing or None: ``boxed``. Votes are on that answer.
    - ``compare``: how the answer found is compared with a right one: a comparison's name
      (:data:`sharpen.llm.tasks.answers.comparisons.COMPARISONS`) or a function of the two that returns a number in
      [0, 1]; missing or None: ``math``, the verifier.
    - ``score(response, answer) -> float``: how good a response is, in [0, 1], given its whole text and a right answer;
      it goes before ``compare``. The task reward, the evaluation that ends a training, and ``sharpen llm eval`` score
      by it.
    - ``threshold``: score from which a response counts as right in pass@k and maj@k, in (0, 1]; missing or None: 1.
    """

    def __call__(self, split: str, limit: int | None) -> DataSource | Sequence[tuple[str, str]]:
        """Return a part of the task.

        Args:
            split: ``train``, ``validation``, ``test``, or what the task calls its parts.
            limit: Only its first so many problems; None for all.

        Returns:
            A source, or pairs of problem and answer. Of pairs the answers are dropped at once where only problems are
            asked for, and the function is called again for the answers. It must return the same problems each time.

        Raises:
            InputError: there is no such part.
        """
        ...


class Judgement(NamedTuple):
    """How a task's responses are judged.

    Args:
        form: Where answers are found and how they are compared.
        score: The task's own; None: by the form.
        threshold: Score that counts as right.
    """

    form: AnswerForm
    score: Score | None
    threshold: float


def judgement_of(task: object) -> Judgement | None:
    """Return what a task says of how its responses are judged; None if it says nothing.

    Raises:
        InputError: there is no such finder or comparison, or the threshold is out of range.
    """
    names = ("find", "compare", "score", "threshold")
    said = {name: given for name in names if (given := getattr(task, name, None)) is not None}
    if not said:
        return None
    form = AnswerForm(said.get("find", AnswerForm.find), said.get("compare", AnswerForm.compare))
    _ = form.finder, form.comparison  # a name of neither is told before anything starts
    threshold = said.get("threshold", 1.0)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise InputError("task.threshold", threshold, "a number in (0, 1]")
    return Judgement(form, said.get("score"), float(threshold))


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a function of split and limit that returns a data source or pairs (problem, answer)")
    try:
        inspect.signature(part).bind("train", None)
    except ValueError:  # a callable that shows no signature
        return
    except TypeError as error:
        raise TypeError(f"a function of split and limit ({error})") from error
    score = getattr(part, "score", None)
    if score is not None and not callable(score):
        raise TypeError("a function score(response, answer)")
    for name in ("find", "compare"):
        given = getattr(part, name, None)
        if given is not None and not (isinstance(given, str) or callable(given)):
            raise TypeError(f"{name} is a name or a function")


TASKS: Registry[Task] = Registry("task", _check)
# The word family, in the room above this one; sources.py registers it behind the tasks that were there before.
WORD_TASKS = (
    *("antonyms", "capitals", "past-tense", "plurals", "first-letter", "last-word", "next", "larger"),
    *("largest-of-three", "parity", "sums", "differences", "products", "two-digits-plus-one", "letters"),
)
TASKS.register_maker("gym", "sharpen.llm.tasks.gym.tasks:task")
