"""How good is a response? One place for the task reward, the evaluations and the sampling command."""

from __future__ import annotations

from collections.abc import Sequence

from sharpen.llm.tasks.data import AnswerKey
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective import InputError


def marks(
    answers: AnswerKey,
    prompt_ids: Sequence[str],
    responses: Sequence[str],
    finished: Sequence[bool] | None,
    verifier: Verifier,
) -> list[float]:
    """Return the score of each response, in [0, 1]: by the task's own function, or 1 or 0 by the verifier.

    Args:
        answers: Gold answers, with the task's own score if it has one.
        prompt_ids: Id of each response's prompt.
        responses: Texts.
        finished: False for each response that was cut at the length limit, which the verifier alone asks for.
        verifier: Compares where the task does not.

    Raises:
        InputError: the task's score is no number in [0, 1].

    Example:
        >>> key = AnswerKey({"a": "4"}, score=lambda response, answer: 0.5 * response.count(answer))
        >>> marks(key, ["a", "a"], ["4", "7"], None, Verifier(workers=1))
        [0.5, 0.0]
    """
    golds = [answers[name] for name in prompt_ids]
    if answers.score is None:
        return verifier(responses, golds, finished)
    found = []
    for response, gold in zip(responses, golds, strict=True):
        try:
            one = float(answers.score(response, gold))
        except (TypeError, ValueError) as error:
            raise InputError("task.score", str(error), "a number in [0, 1]") from error
        if not 0 <= one <= 1:
            raise InputError("task.score", one, "a number in [0, 1]")
        found.append(one)
    return found
