"""The door of tasks: what one is, and where those that are built in are found."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sharpen.llm.tasks.data import DataSource
from sharpen.objective.registry import Registry


@runtime_checkable
class Task(Protocol):
    """Problems with answers, and how a response is scored: what ``data`` names in a configuration.

    A function of ``split`` and ``limit`` is a task. It, or an object in its place, may have two attributes more:

    - ``template``: the prompt template where a configuration names none: its name, or a template itself
      (:mod:`sharpen.llm.tasks.templates`); missing or None: the model's.
    - ``score(response, answer) -> float``: how good a response is, in [0, 1], given its whole text and the gold answer;
      missing or None: :class:`sharpen.llm.tasks.verification.verify.Verifier` compares the final answer. The task
      reward, the evaluation that ends a training, and ``sharpen llm eval`` score by it. A response counts as right in
      pass@k where its score is 1.
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


TASKS: Registry[Task] = Registry("task", _check)
# In the room above this one, which imports this: found by their places, when they are first asked for.
WORD_TASKS = (
    *("antonyms", "capitals", "past-tense", "plurals", "first-letter", "last-word", "next", "larger"),
    *("largest-of-three", "parity", "sums", "differences", "products", "two-digits-plus-one", "letters"),
)
for _name in WORD_TASKS:
    TASKS.register(_name, f"sharpen.llm.tasks.words.family:tasks.{_name.replace('-', '_')}")
