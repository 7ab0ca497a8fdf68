"""Rewards of a response's text alone, or of a group's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from sharpen.llm.rewards.registry import Scoring, measured, reward
from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.llm.tasks.data import BOXED
from sharpen.llm.tasks.verification.verify import Verifier, final_answer


@reward()
def filled_box(responses: Sequence[str]) -> list[float]:
    r"""1 for a response with a complete, filled ``\boxed{}``, whatever it holds (Shao 2025's format reward)."""
    return [float(final_answer(text) is not None) for text in responses]


@reward(reads_entropies=False)
def length(
    prompt_ids: Sequence[str],
    responses: Sequence[str],
    scoring: Scoring,
    *,
    target: int,
    prefer: Literal["long", "short"] = "long",
) -> list[float]:
    """The share of ``target`` that the response's tokens are, at most 1; with ``prefer: short`` 1 minus that."""
    shares = [min(1.0, tokens / target) for tokens in measured("lengths", scoring.lengths)]
    return shares if prefer == "long" else [1.0 - share for share in shares]


@reward(reads_entropies=False)
def majority(
    prompt_ids: Sequence[str],
    responses: Sequence[str],
    scoring: Scoring,
    *,
    form: AnswerForm = BOXED,
    verifier: Verifier,
) -> list[float]:
    """1 for the final answer that most responses of the group give (Zuo 2025, TTRL); of tied ones, the first seen.

    The task's form finds the answers and says which are the same; of mathematics those of one value are, see
    :func:`sharpen.llm.tasks.verification.voting.by_value`. A response without an answer has no vote.
    """
    own = form.votes(responses, scoring.finished)
    groups: dict[str | int, list[int]] = {}
    for row, group in enumerate(prompt_ids if scoring.groups is None else scoring.groups):
        groups.setdefault(group, []).append(row)
    texts = [[own[row] for row in rows] for rows in groups.values()]
    rewards = [0.0] * len(responses)
    for rows, votes in zip(groups.values(), form.united(texts, verifier), strict=True):
        counts = Counter(answer for answer in votes if answer is not None)
        # max takes the first of equals, and a Counter keeps the order in which its keys came.
        winner = max(counts, key=counts.__getitem__, default=None)
        for row, answer in zip(rows, votes, strict=True):
            rewards[row] = float(answer is not None and answer == winner)
    return rewards
