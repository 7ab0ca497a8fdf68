"""Rewards that open the gold answers."""

from __future__ import annotations

from collections.abc import Sequence

from sharpen.llm.rewards.registry import Scoring, reward
from sharpen.llm.tasks.data import AnswerKey
from sharpen.llm.tasks.marking import marks
from sharpen.llm.tasks.verification.verify import Verifier


@reward(needs_answers=True, of_marks=float)
def task(
    prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, *, answers: AnswerKey, verifier: Verifier
) -> list[float]:
    """The response's score by the gold answer: 1 if its final answer equals it, else 0, or the task's own score."""
    return marks(answers, prompt_ids, responses, scoring.finished, verifier)


@reward(needs_answers=True, of_marks=lambda mark: 1.0 - mark)
def inverted(
    prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, *, answers: AnswerKey, verifier: Verifier
) -> list[float]:
    """1 minus the task reward, a control: what is learned from wrong labels is not the task."""
    return [1.0 - right for right in task(prompt_ids, responses, scoring, answers=answers, verifier=verifier)]
