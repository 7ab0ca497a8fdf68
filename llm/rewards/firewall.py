"""Rewards of a training run, behind the label firewall: the only place that turns answers into rewards.

A run whose objective has no reward term never holds an answer: :func:`reward_for` returns None without opening them,
and nothing else in the training path takes a source of answers. Of the rewards, those alone open them that declare
``needs_answers``; the others are called with ids, texts and what is measured of them. docs/rewards.md says what that
guarantees where a reward is somebody else's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sharpen.llm.rewards.registry import GIVEN, REWARDS, Reward, Scoring, places_of, reads_entropies, settings_of
from sharpen.llm.tasks.data import DataSource, form_of
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective import InputError, Objective
from sharpen.objective.settings import Settings, Text

__all__ = ["BoundReward", "Reward", "RewardConfig", "Scoring", "reward_for"]
FIELDS = ("target", "prefer", "probability")  # settings of built-in rewards that have a field, and flags, of their own


class RewardConfig(Settings):
    """Which reward r a run is given; docs/rewards.md has a table.

    Raises:
        pydantic.ValidationError: a field is out of range, or belongs to another kind.
    """

    kind: Annotated[Text, AfterValidator(REWARDS.valid)] = Field(
        default="task", description="A reward's name, or module:object."
    )
    options: dict[str, Any] = Field(default={}, description="The reward's own settings.")
    target: int | None = Field(default=None, ge=1, description="length: tokens at which the reward is 1 (or 0).")
    prefer: Literal["long", "short"] = Field(default="long", description="length: what is rewarded.")
    probability: float = Field(default=0.5, ge=0, le=1, description="random: chance of reward 1.")

    @model_validator(mode="after")
    def _fields_belong_to_the_kind(self) -> Self:
        part = REWARDS.get(self.kind)
        own = {name: one for name, one in settings_of(part).items() if name not in GIVEN}
        wanted = "target" in own and "target" not in self.options
        needed = wanted and own["target"].default is own["target"].empty
        if (self.target is None and needed) or (self.target is not None and not wanted):
            allowed = "a number of tokens" if needed else f"none for the reward {self.kind}"
            raise ValueError(f"target: got {self.target}, allowed: {allowed}")
        unknown = [name for name in self.options if name not in own]
        if unknown:
            raise ValueError(f"options: got {unknown[0]}, allowed: {', '.join(own) or 'none'} for {self.kind}")
        missing = [name for name, one in own.items() if one.default is one.empty and name not in self.settings()]
        if missing:
            raise ValueError(f"options: got none named {missing[0]}, which the reward {self.kind} needs")
        check = getattr(part, "check", None)
        if check is not None:
            check(**self.settings())
        return self

    @property
    def needs_answers(self) -> bool:
        """Whether the reward opens the gold answers."""
        return bool(getattr(REWARDS.get(self.kind), "needs_answers", False))

    @property
    def reads_entropies(self) -> bool:
        """Whether the reward may look at the policy's entropies."""
        return reads_entropies(REWARDS.get(self.kind))

    def settings(self) -> dict[str, Any]:
        """Return what the reward is given of its settings: the options, and the fields here that it takes."""
        own = settings_of(REWARDS.get(self.kind))
        fields = {name: getattr(self, name) for name in FIELDS if name in own}
        return {name: given for name, given in fields.items() if given is not None} | self.options


class BoundReward:
    """A reward with its settings, as the trainer calls it.

    Args:
        kind: Its name.
        part: What is registered.
        given: Settings, and what else it asks for by keyword.
    """

    def __init__(self, kind: str, part: Callable[..., Any], given: Mapping[str, Any]) -> None:
        self.kind = kind
        self.needs_certainties = bool(getattr(part, "needs_certainties", False))
        self._function = part(**given) if isinstance(part, type) else part
        self._given = {} if isinstance(part, type) else dict(given)
        self._places = places_of(self._function)
        self.reads_entropies = reads_entropies(part)

    def __call__(
        self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring | None = None
    ) -> list[float]:
        """Return one reward per response; see :class:`Reward`.

        Raises:
            InputError: the reward returned something else.
            ValueError: it needs what ``scoring`` has not, or there are other numbers of ids, responses and rewards.
        """
        every = (prompt_ids, responses, scoring or Scoring())
        found = self._function(*(every[1:2] if self._places == 1 else every[: self._places]), **self._given)
        try:
            rewards = [float(one) for one in found]
        except (TypeError, ValueError) as error:
            raise InputError(f"reward {self.kind}", found, "one number a response") from error
        if not len(rewards) == len(responses) == len(prompt_ids):
            raise ValueError(f"rows: got {len(rewards)}, allowed: {len(responses)}, as many as responses")
        wrong = next((one for one in rewards if not math.isfinite(one)), None)
        if wrong is not None:
            raise InputError(f"reward {self.kind}", wrong, "finite numbers")
        return rewards


def reward_for(
    objective: Objective,
    source: DataSource,
    *,
    kind: str = "task",
    seed: int = 0,
    verifier: Verifier | None = None,
    **settings: object,
) -> BoundReward | None:
    """Return the reward of a training run, or None, with the answers unopened, if the objective has no reward term.

    Args:
        objective: The run's.
        source: Opened for a reward that declares that it needs answers only, and handed to none.
        kind: A reward's name, or ``module:object``.
        seed: The run's; the random reward draws from it.
        verifier: Compares answers; one is made if not given, whose processes start with the first answers that need
            them and end with the program.
        settings: The other fields of :class:`RewardConfig`.

    Raises:
        InputError: there is no such reward.
        pydantic.ValidationError: a setting is out of range.
    """
    part = REWARDS.get(kind, "reward.kind")
    config = RewardConfig.model_validate({"kind": kind, **settings})
    if not objective.needs_reward:
        return None
    asked = settings_of(part)
    given = config.settings()
    if "seed" in asked:
        given["seed"] = seed
    if "verifier" in asked:
        given["verifier"] = verifier or Verifier()
    if "form" in asked:
        given["form"] = form_of(source)
    if config.needs_answers:
        answers = source.answers()
        if "answers" in asked:
            given["answers"] = answers
    return BoundReward(kind, part, given)
