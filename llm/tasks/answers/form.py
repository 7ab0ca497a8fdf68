"""The form of a task's answers: one rule for what is right, what votes, and which votes are the same answer.

A form holds no label. Votes need it, and the majority reward, in runs that see no answers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpen.llm.tasks.answers.comparisons import COMPARISONS, MATH, Comparison, normal_exact
from sharpen.llm.tasks.answers.finders import FINDERS, Finder, boxed
from sharpen.llm.tasks.verification.verify import Verifier, vote
from sharpen.llm.tasks.verification.voting import by_value
from sharpen.objective import InputError
from sharpen.objective.storage.parsing import reason

BOXED = "boxed"
RANGE = "a number in [0, 1]"


@dataclass(frozen=True)
class AnswerForm:
    r"""Where an answer is found and how it is compared.

    Args:
        find: A finder's name, ``module:object``, or the function itself.
        compare: A comparison's name, ``module:object``, or the function itself.

    Example:
        >>> form = AnswerForm("first-line", "words")
        >>> form.votes([" Cold.\nQuestion:", ""]), form.scores(["Cold."], [("cold", "chilly")], None, None)
        (['cold', None], [1.0])
    """

    find: Finder | str = BOXED
    compare: Comparison | str = MATH

    @property
    def finder(self) -> Finder:
        """The function that finds the answer.

        Raises:
            InputError: there is no such finder.
        """
        return FINDERS.get(self.find, "task.find") if isinstance(self.find, str) else self.find

    @property
    def comparison(self) -> Comparison | None:
        """The function that compares; None for the verifier.

        Raises:
            InputError: there is no such comparison.
        """
        if self.compare == MATH:
            return None
        return COMPARISONS.get(self.compare, "task.compare") if isinstance(self.compare, str) else self.compare

    def names(self) -> dict[str, str]:
        """Return what the two are called, for reports."""
        find, compare = FINDERS.name_of(self.find, "task.find"), COMPARISONS.name_of(self.compare, "task.compare")
        return {"find": find, "compare": compare}

    def found(self, responses: Sequence[str], finished: Sequence[bool] | None = None) -> list[str | None]:
        """Return the answer of each response as it is written, None where it has none.

        Args:
            responses: Texts.
            finished: False for each that was cut at the length limit; only ``boxed`` asks.

        Raises:
            InputError: a user's finder failed, or returned something else than a text or None.
        """
        if self.find == BOXED:
            return [boxed(*one) for one in _with_flags(responses, finished)]
        finder, allowed = self.finder, "a function that returns a text or None"
        answers = [called(finder, "task.find", allowed, text) for text in responses]
        wrong = next((one for one in answers if one is not None and not isinstance(one, str)), None)
        if wrong is not None:
            raise InputError("task.find", wrong, allowed)
        return answers

    def votes(self, responses: Sequence[str], finished: Sequence[bool] | None = None) -> list[str | None]:
        """Return the answer of each response as a vote counts it: in the comparison's normal form, if it has one.

        Votes for one value in different writings may be different here; :meth:`united` unites them.
        """
        comparison = self.comparison
        if comparison is None and self.find == BOXED:
            return [vote(*one) for one in _with_flags(responses, finished)]
        normal = getattr(comparison, "normal", normal_exact)
        found = self.found(responses, finished)
        return [None if one is None else called(normal, "task.compare", "a normal form", one) or None for one in found]

    def united(self, groups: Sequence[Sequence[str | None]], verifier: Verifier) -> list[list[str | None]]:
        """Return the votes of each group with one text for all that are the same answer."""
        if self.comparison is None:
            return by_value(groups, verifier)
        return [list(votes) for votes in groups]

    def scores(
        self,
        responses: Sequence[str],
        rights: Sequence[Sequence[str]],
        finished: Sequence[bool] | None,
        verifier: Verifier | None,
    ) -> list[float]:
        """Return how good each response is: the best of its comparisons with the right answers, in [0, 1].

        Args:
            responses: Texts.
            rights: The right answers to each response's problem, one or several.
            finished: As for :meth:`found`.
            verifier: Needed by the comparison ``math``.

        Raises:
            InputError: a user's comparison failed, or returned something else.
        """
        comparison = self.comparison
        if comparison is None:
            assert verifier is not None
            return self._by_verifier(responses, rights, finished, verifier)
        answers = self.found(responses, finished)
        return [
            max((scored(comparison, "task.compare", answer, right) for right in every), default=0.0)
            if answer is not None
            else 0.0
            for answer, every in zip(answers, rights, strict=True)
        ]

    def _by_verifier(
        self,
        responses: Sequence[str],
        rights: Sequence[Sequence[str]],
        finished: Sequence[bool] | None,
        verifier: Verifier,
    ) -> list[float]:
        """Return 1.0 where the verifier takes the response's answer for one of the right ones."""
        rows = [(row, right) for row, every in enumerate(rights) for right in every]
        golds = [right for _, right in rows]
        if self.find == BOXED:
            flags = None if finished is None else [finished[row] for row, _ in rows]
            found = verifier([responses[row] for row, _ in rows], golds, flags)
        else:
            answers = self.found(responses, finished)
            asked = [(answers[row] or "", right) for row, right in rows]
            found = [float(same is True) for same in verifier.equal([one for one, _ in asked], golds)]
        scores = [0.0] * len(responses)
        for (row, _), score in zip(rows, found, strict=True):
            scores[row] = max(scores[row], score)
        return scores


def _with_flags(responses: Sequence[str], finished: Sequence[bool] | None) -> list[tuple[str, bool]]:
    """Return each response with whether it ended by itself; where nobody knows, it did."""
    return list(zip(responses, [True] * len(responses) if finished is None else finished, strict=True))


def called(function: Callable[..., Any], field: str, allowed: str, *given: Any) -> Any:
    """Return what a user's function makes of its arguments.

    Raises:
        InputError: it failed, with what it raised and where.
    """
    try:
        return function(*given)
    except InputError:
        raise
    except Exception as error:  # whatever it is, it is the function's
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise InputError(field, f"{type(error).__name__} at {place}: {reason(error)}", allowed) from error


def scored(function: Callable[..., object], field: str, *given: str) -> float:
    """Return a user's score of its arguments.

    Raises:
        InputError: the function failed, or returned no number in [0, 1].
    """
    return in_range(called(function, field, RANGE, *given), field)


def in_range(given: object, field: str) -> float:
    """Return a score.

    Raises:
        InputError: it is no number in [0, 1].
    """
    try:
        score = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(field, given, RANGE) from error
    if not 0 <= score <= 1:
        raise InputError(field, score, RANGE)
    return score
