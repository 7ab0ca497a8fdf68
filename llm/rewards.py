"""The label firewall: the only place that turns answers into rewards.

A run whose objective has no reward term never holds an answer: :func:`reward_for` returns None without opening them,
and nothing else in the training path takes a source of answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from sharpen.llm.data import AnswerKey, DataSource
from sharpen.llm.verify import verify
from sharpen.objective import Objective


class TaskReward:
    """Reward 1 for a response whose final answer equals the gold answer, else 0.

    Args:
        answers: Gold answers by prompt id.
    """

    def __init__(self, answers: AnswerKey) -> None:
        self._answers = answers

    def __call__(self, prompt_ids: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Return one reward a response; ``prompt_ids`` and ``responses`` run in parallel."""
        return [verify(text, self._answers[name]) for name, text in zip(prompt_ids, responses, strict=True)]


def reward_for(objective: Objective, source: DataSource) -> TaskReward | None:
    """Return the reward of a training run, or None, with the answers unopened, if the objective has no reward term."""
    return TaskReward(source.answers()) if objective.needs_reward else None
