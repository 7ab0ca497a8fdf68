"""The door of rewards: what one is, what it may read, and where those that are built in are found."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sharpen.objective.registry import Registry

Number = TypeVar("Number", int, float)
Part = TypeVar("Part", bound=Callable[..., Any])
GIVEN = ("answers", "form", "seed", "verifier")  # what a reward may ask for beside its settings
Kind = inspect.Parameter  # its kinds of parameters


@dataclass(frozen=True)
class Scoring:
    """What a reward may read of a batch beside its texts, one entry per row; None where nobody has measured it.

    Args:
        step: Updates done.
        rows: Place of each row in the step's whole batch, over all processes.
        lengths: Response tokens, end-of-sequence included.
        entropies: Mean over the response's tokens of the policy's entropy, nats.
        certainties: Mean over the response's tokens of KL(U || pi), U uniform over the vocabulary, nats; see
            :func:`sharpen.llm.learners.certainty.self_certainty`. Measured for rewards that declare it.
        groups: Number of each row's group. Without it the responses to one prompt are a group, also where the prompt
            was drawn twice.
        finished: False for a response that was cut at the length limit.
    """

    step: int = 0
    rows: Sequence[int] | None = None
    lengths: Sequence[int] | None = None
    entropies: Sequence[float] | None = None
    certainties: Sequence[float] | None = None
    groups: Sequence[int] | None = None
    finished: Sequence[bool] | None = None


class Reward(Protocol):
    """One number per response, in any units; the objective's coefficients weigh it.

    What is registered is one of:

    - a function of ``responses``, or of ``prompt_ids`` and ``responses``, or of ``prompt_ids``, ``responses`` and
      ``scoring``, by position. What it takes by keyword only are its settings, which ``reward.options`` (or the fields
      of :class:`~sharpen.llm.rewards.firewall.RewardConfig` of the same names) give;
    - a class whose constructor takes the settings, and whose objects are such functions.

    By keyword it may also take ``seed`` (the run's), ``verifier`` (a
    :class:`~sharpen.llm.tasks.verification.verify.Verifier`), ``form`` (the task's
    :class:`~sharpen.llm.tasks.answers.form.AnswerForm`, which finds and unites answers and holds no label), and, if it
    declares that it needs them, ``answers`` (an :class:`~sharpen.llm.tasks.data.AnswerKey`: gold answers by prompt id,
    a text or several). It declares it by ``@reward(needs_answers=True)`` or an attribute ``needs_answers``; not to
    declare it is to do without.
    A static method or attribute ``check(**settings)`` may refuse settings by an ``InputError`` before anything starts.
    """

    def __call__(self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, /) -> Sequence[float]:
        """Return one finite number per response.

        Args:
            prompt_ids: Id of each response's prompt.
            responses: Texts, without special tokens.
            scoring: What else is known of them; any of its fields may be None.

        Raises:
            ValueError: the reward needs something that ``scoring`` has not.
        """
        ...


def reward(
    *,
    needs_answers: bool = False,
    needs_certainties: bool = False,
    reads_entropies: bool = True,
    of_marks: Callable[[float], float] | None = None,
) -> Callable[[Part], Part]:
    """Return a decorator that declares what a reward needs.

    Args:
        needs_answers: It is given gold answers: a run with it is a run with labels.
        needs_certainties: ``scoring.certainties`` is measured, which takes a pass of the model more.
        reads_entropies: False for a reward that takes ``scoring`` but never looks at its ``entropies``, so that it can
            be known before the policy has scored the responses.
        of_marks: For a reward that is a function of the response's score by the gold answer alone, that function: an
            evaluation that has the scores need not score again.

    Example:
        >>> @reward(needs_answers=True)
        ... def contains(prompt_ids, responses, scoring, *, answers):
        ...     return [float(answers[name] in text) for name, text in zip(prompt_ids, responses)]
        >>> contains(["a"], ["it is 4"], Scoring(), answers={"a": "4"})
        [1.0]
    """

    def declare(part: Part) -> Part:
        part.needs_answers, part.needs_certainties = needs_answers, needs_certainties  # type: ignore[attr-defined]
        part.reads_entropies = reads_entropies  # type: ignore[attr-defined]
        part.of_marks = of_marks  # type: ignore[attr-defined]
        return part

    return declare


def settings_of(part: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a reward that are settings, or among :data:`GIVEN`, by name."""
    every = inspect.signature(part).parameters.values()
    kinds = (Kind.KEYWORD_ONLY, Kind.POSITIONAL_OR_KEYWORD) if isinstance(part, type) else (Kind.KEYWORD_ONLY,)
    return {one.name: one for one in every if one.kind in kinds}


def places_of(part: Callable[..., Any]) -> int:
    """Return how many arguments a function takes by position: 1, 2 or 3.

    Raises:
        TypeError: another number.
    """
    every = inspect.signature(part).parameters.values()
    if any(one.kind is Kind.VAR_POSITIONAL for one in every):
        return 3
    found = sum(one.kind in (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD) for one in every)
    if not 1 <= found <= 3:
        raise TypeError(f"a function of responses, or of prompt_ids, responses and scoring ({found} places)")
    return found


def reads_entropies(part: Callable[..., Any]) -> bool:
    """Return whether a reward may look at the entropies: it takes ``scoring``, and does not declare that it does not.

    What the objects of a class take is not looked at: a class declares it, or may look.
    """
    takes_scoring = isinstance(part, type) or places_of(part) == 3
    return takes_scoring and bool(getattr(part, "reads_entropies", True))


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a function of responses, or of prompt_ids, responses and scoring")
    if not isinstance(part, type):
        places_of(part)
    elif not callable(getattr(part, "__call__", None)):  # noqa: B004  # of its objects
        raise TypeError("a class whose objects can be called")
    declared = getattr(part, "needs_answers", False)
    if not isinstance(declared, bool):
        raise TypeError("needs_answers is True or False")
    if "answers" in settings_of(part) and not declared:
        raise TypeError("it takes answers, so it has to declare needs_answers=True")


def measured(name: str, given: Sequence[Number] | None) -> Sequence[Number]:
    """Return a field of :class:`Scoring` that a reward cannot do without.

    Raises:
        ValueError: nobody has measured it.
    """
    if given is None:
        raise ValueError(f"scoring.{name}: got none, allowed: one number a response")
    return given


REWARDS: Registry[Callable[..., Any]] = Registry("reward", _check)
REWARDS.register("task", "sharpen.llm.rewards.labelled:task")
REWARDS.register("inverted", "sharpen.llm.rewards.labelled:inverted")
REWARDS.register("noisy", "sharpen.llm.rewards.labelled:Noisy")
REWARDS.register("format", "sharpen.llm.rewards.text:filled_box")
REWARDS.register("length", "sharpen.llm.rewards.text:length")
REWARDS.register("majority", "sharpen.llm.rewards.text:majority")
REWARDS.register("self_certainty", "sharpen.llm.rewards.signals:self_certainty")
REWARDS.register("negative_entropy", "sharpen.llm.rewards.signals:negative_entropy")
REWARDS.register("random", "sharpen.llm.rewards.signals:random")
