"""How good is a response? One place for the task reward, the evaluations and the sampling command."""

from __future__ import annotations

from collections.abc import Sequence

from sharpen.llm.tasks.answers.form import called, in_range, scored
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
    """Return the score of each response, in [0, 1].

    By the task's own functions where it has them, or by its form: the verifier of the mathematics tasks, or another
    comparison. Of several right answers the one that gives most counts.

    Args:
        answers: Gold answers, with the way to score.
        prompt_ids: Id of each response's prompt.
        responses: Texts.
        finished: False for each response that was cut at the length limit.
        verifier: Compares where the form says ``math``.

    Raises:
        InputError: a user's function failed, a score is no number in [0, 1], or there is not one per response.

    Example:
        >>> key = AnswerKey({"a": "4"}, score=lambda response, answer: 0.5 * response.count(answer))
        >>> marks(key, ["a", "a"], ["4", "7"], None, Verifier(workers=1))
        [0.5, 0.0]
    """
    if answers.mark is not None:
        found = list(called(answers.mark, "task.mark", "one score a response", prompt_ids, responses, finished))
        if len(found) != len(responses):
            raise InputError("task.mark", f"{len(found)} scores", f"{len(responses)}, one a response")
        return [in_range(one, "task.mark") for one in found]
    golds = [answers.every(name) for name in prompt_ids]
    own = answers.score
    if own is None:
        return answers.form.scores(responses, golds, finished, verifier)
    return [
        max((scored(own, "task.score", response, gold) for gold in every), default=0.0)
        for response, every in zip(responses, golds, strict=True)
    ]
