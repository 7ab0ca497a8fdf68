"""Rewards of a training run, behind the label firewall: the only place that turns answers into rewards.

A run whose objective has no reward term never holds an answer: :func:`reward_for` returns None without opening them,
and nothing else in the training path takes a source of answers. Of the rewards, ``task`` and ``inverted`` alone open
them; the others are controls and label-free signals, which see responses and the policy's own confidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar, get_args

import numpy as np
from pydantic import Field, model_validator

from sharpen.llm.tasks.data import AnswerKey, DataSource
from sharpen.llm.tasks.verification.verify import Verifier, final_answer, vote
from sharpen.llm.tasks.verification.voting import by_value
from sharpen.objective import InputError, Objective
from sharpen.objective.settings import Settings

RewardKind = Literal["task", "inverted", "format", "length", "majority", "self_certainty", "negative_entropy", "random"]
KINDS: tuple[str, ...] = get_args(RewardKind)
Number = TypeVar("Number", int, float)
LABELLED = ("task", "inverted")  # the kinds that open the answers


class RewardConfig(Settings):
    """Which reward r a run is given; docs/verifier.md has a table.

    Raises:
        pydantic.ValidationError: a field is out of range, or belongs to another kind.
    """

    kind: RewardKind = "task"
    target: int | None = Field(default=None, ge=1, description="length: tokens at which the reward is 1 (or 0).")
    prefer: Literal["long", "short"] = Field(default="long", description="length: what is rewarded.")
    probability: float = Field(default=0.5, ge=0, le=1, description="random: chance of reward 1.")

    @model_validator(mode="after")
    def _fields_belong_to_the_kind(self) -> Self:
        if (self.target is not None) != (self.kind == "length"):
            allowed = "a number of tokens" if self.kind == "length" else f"none for the reward {self.kind}"
            raise ValueError(f"target: got {self.target}, allowed: {allowed}")
        return self

    @property
    def needs_answers(self) -> bool:
        """Whether the reward opens the gold answers."""
        return self.kind in LABELLED


@dataclass(frozen=True)
class Scoring:
    """What a reward may read of a batch beside its texts, one entry a row; None where nobody has measured it.

    Args:
        step: Updates done.
        rows: Place of each row in the step's whole batch, over all processes.
        lengths: Response tokens, end-of-sequence included.
        entropies: Mean over the response's tokens of the policy's entropy, nats.
        certainties: Mean over the response's tokens of KL(U || pi), U uniform over the vocabulary, nats; see
            :func:`sharpen.llm.learners.certainty.self_certainty`.
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
    """One number a response."""

    kind: str

    def __call__(
        self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring | None = None
    ) -> list[float]:
        """Return one reward a response.

        Args:
            prompt_ids: Id of each response's prompt.
            responses: Texts.
            scoring: What else is known of them.

        Raises:
            ValueError: the reward needs something that ``scoring`` has not.
        """
        ...


class TaskReward:
    """Reward 1 for a response whose final answer equals the gold answer, else 0; or the reverse.

    Args:
        answers: Gold answers by prompt id.
        inverted: Give 1 - r, a control: what is learned from wrong labels is not the task.
        verifier: Compares; one is made if not given, and ends with the program.
    """

    def __init__(self, answers: AnswerKey, *, inverted: bool = False, verifier: Verifier | None = None) -> None:
        self.kind = "inverted" if inverted else "task"
        self.verifier = verifier or Verifier()
        self._answers = answers

    def __call__(
        self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring | None = None
    ) -> list[float]:
        """Return one reward a response; see :class:`Reward`."""
        golds = [self._answers[name] for name in prompt_ids]
        right = self.verifier(responses, golds, None if scoring is None else scoring.finished)
        return [1.0 - reward for reward in right] if self.kind == "inverted" else right


class LabelFreeReward:
    """A reward that is a function of responses and scoring, and of no answer.

    Args:
        config: Of a kind that needs no answers.
        seed: Of the random reward.
        verifier: Tells the majority reward which answers are the same; one is made if not given.
    """

    def __init__(self, config: RewardConfig, seed: int, verifier: Verifier | None = None) -> None:
        if config.needs_answers:
            raise ValueError(f"kind: got {config.kind}, allowed: one that needs no answers")
        self.kind, self._config, self._seed = config.kind, config, seed
        self._verifier = verifier or Verifier()  # whose processes start with the first answers that need them

    def __call__(
        self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring | None = None
    ) -> list[float]:
        """Return one reward a response; see :class:`Reward`."""
        scoring = scoring or Scoring()
        if self.kind == "majority":
            rewards = majority(prompt_ids, responses, scoring, self._verifier)
        else:
            rewards = _LABEL_FREE[self.kind](responses, scoring, self._config, self._seed)
        if not len(rewards) == len(responses) == len(prompt_ids):
            raise ValueError(f"rows: got {len(rewards)}, allowed: {len(responses)}, as many as responses")
        return rewards


def reward_for(
    objective: Objective, source: DataSource, *, kind: str = "task", seed: int = 0, **settings: object
) -> Reward | None:
    """Return the reward of a training run, or None, with the answers unopened, if the objective has no reward term.

    Args:
        objective: The run's.
        source: Opened for ``task`` and ``inverted`` only.
        kind: One of ``KINDS``.
        seed: The run's; the random reward draws from it.
        settings: The other fields of :class:`RewardConfig`.

    Raises:
        InputError: there is no such reward.
        pydantic.ValidationError: a setting is out of range.
    """
    if kind not in KINDS:
        raise InputError("reward.kind", kind, ", ".join(KINDS))
    config = RewardConfig.model_validate({"kind": kind, **settings})
    if not objective.needs_reward:
        return None
    if config.needs_answers:
        return TaskReward(source.answers(), inverted=kind == "inverted")
    return LabelFreeReward(config, seed)


def _format(responses: Sequence[str], scoring: Scoring, config: RewardConfig, seed: int) -> list[float]:
    r"""1 for a response with a complete, filled ``\boxed{}``, whatever it holds (Shao 2025's format reward)."""
    return [float(final_answer(text) is not None) for text in responses]


def _length(responses: Sequence[str], scoring: Scoring, config: RewardConfig, seed: int) -> list[float]:
    """min(1, |x| / target), or 1 minus that."""
    assert config.target is not None
    shares = [min(1.0, length / config.target) for length in _measured("lengths", scoring.lengths)]
    return shares if config.prefer == "long" else [1.0 - share for share in shares]


def majority(prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, verifier: Verifier) -> list[float]:
    """1 for the final answer that most responses of the group give (Zuo 2025, TTRL); of tied ones, the first seen.

    Answers are one vote if they have the same value, see :func:`sharpen.llm.tasks.verification.voting.by_value`. A
    response without an answer has no vote.
    """
    finished = [True] * len(responses) if scoring.finished is None else scoring.finished
    groups: dict[str | int, list[int]] = {}
    for row, group in enumerate(prompt_ids if scoring.groups is None else scoring.groups):
        groups.setdefault(group, []).append(row)
    texts = [[vote(responses[row], finished[row]) for row in rows] for rows in groups.values()]
    rewards = [0.0] * len(responses)
    for rows, votes in zip(groups.values(), by_value(texts, verifier), strict=True):
        counts = Counter(answer for answer in votes if answer is not None)
        # max takes the first of equals, and a Counter keeps the order in which its keys came.
        winner = max(counts, key=counts.__getitem__, default=None)
        for row, answer in zip(rows, votes, strict=True):
            rewards[row] = float(answer is not None and answer == winner)
    return rewards


def _self_certainty(responses: Sequence[str], scoring: Scoring, config: RewardConfig, seed: int) -> list[float]:
    """Mean KL(U || pi) over tokens (Kang 2025; Zhao 2025, Intuitor)."""
    return [float(value) for value in _measured("certainties", scoring.certainties)]


def _negative_entropy(responses: Sequence[str], scoring: Scoring, config: RewardConfig, seed: int) -> list[float]:
    """Minus the mean token entropy (Prabhudesai 2025, RENT; Agarwal 2025)."""
    return [-float(value) for value in _measured("entropies", scoring.entropies)]


def _random(responses: Sequence[str], scoring: Scoring, config: RewardConfig, seed: int) -> list[float]:
    """1 with a fixed probability, a function of (seed, step, row) alone: a resumed run draws the same."""
    rows = range(len(responses)) if scoring.rows is None else scoring.rows
    return [float(np.random.default_rng([seed, scoring.step, row]).random() < config.probability) for row in rows]


def _measured(name: str, given: Sequence[Number] | None) -> Sequence[Number]:
    if given is None:
        raise ValueError(f"scoring.{name}: got none, allowed: one number a response")
    return given


_Function = Callable[[Sequence[str], Scoring, RewardConfig, int], list[float]]
_LABEL_FREE: dict[str, _Function] = {
    "format": _format,
    "length": _length,
    "self_certainty": _self_certainty,
    "negative_entropy": _negative_entropy,
    "random": _random,
}
