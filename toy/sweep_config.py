"""The grid of a sweep, validated, and its settings in their fixed order."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sharpen.objective import InputError, Objective
from sharpen.theory.problem import Problem, parse_problem
from sharpen.toy.estimators import Options
from sharpen.toy.learners import check
from sharpen.toy.policies import SEPARATE, Family, sequences
from sharpen.toy.setting import Setting, setting

NonNegative = Annotated[float, Field(ge=0)]
# Compiled apart, so outermost: runs that share them are neighbours.
COMPILED = ("learner", "group_size", "optimizer", "kl", "reference")
OBJECTIVE = ("reference", "mode", "normalization", "weight", "alpha", "beta_inv")
OTHER = ("step_size", "reward_noise", "base_noise")
AXES = COMPILED + OBJECTIVE[1:] + OTHER
MOST_RUNS = 10**7


class Point(NamedTuple):
    """One setting of the grid.

    Args:
        columns: The value of every axis.
        objective: What is maximised.
        options: What is fixed when the learner is compiled.
    """

    columns: dict[str, Any]
    objective: Objective
    options: Options


class SweepConfig(BaseModel):
    """A grid: every combination of the tuples, with ``seeds`` runs each.

    Args:
        base: Base distribution, in the forms of ``sharpen theory``; None takes the default problem's.
        reward: Task reward, likewise.
        length: Lengths; None for ones.
        policy: ``table``, a logit an outcome; ``tree`` or ``machine``, token sequences under a policy with a state for
            each prefix or with one state (see :func:`sharpen.toy.policies.sequences`), which take the next four instead
            of the three above.
        tokens: Token probabilities.
        hazard: Probability of stopping before each token.
        longest: Tokens of the longest sequence.
        correct: The reward is 1 for sequences that end in this token; None for no reward.
        learner: Names of learners.
        group_size: Samples of an update.
        optimizer: ``sgd``, ``momentum`` or ``adam``.
        kl: Where the KL estimate stands, see ``sharpen.toy.estimators.KL_PLACES``.
        mode: Of the objective, as are the next five.
        normalization: Likewise.
        weight: Likewise.
        reference: Likewise.
        alpha: Likewise.
        beta_inv: Likewise.
        step_size: eta.
        reward_noise: Standard deviation of noise on sampled rewards.
        base_noise: Standard deviation of a fixed error of log p.
        seeds: Runs of each setting.
        seed: Of all random numbers.
        steps: Updates.
        record_every: Updates between two records; None for about a hundred records.
        k: Of pass@k.
        batch: Runs that are computed together, and the unit that is saved.

    Raises:
        pydantic.ValidationError: a setting is out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: str | None = None
    reward: str | None = None
    length: str | None = None
    policy: Literal["table", "tree", "machine"] = "table"
    tokens: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.3, 0.2)
    hazard: float = Field(default=0.25, gt=0, lt=1)
    longest: int = Field(default=5, ge=1, le=20)
    correct: int | None = Field(default=None, ge=0)
    learner: tuple[str, ...] = Field(default=("rloo",), min_length=1)
    group_size: tuple[Annotated[int, Field(ge=1, le=10**5)], ...] = Field(default=(16,), min_length=1)
    optimizer: tuple[str, ...] = Field(default=("sgd",), min_length=1)
    kl: tuple[str, ...] = Field(default=("k1-reward",), min_length=1)
    mode: tuple[str, ...] = Field(default=("sampling",), min_length=1)
    normalization: tuple[str, ...] = Field(default=("sum",), min_length=1)
    weight: tuple[float | None, ...] = Field(default=(None,), min_length=1)
    reference: tuple[str, ...] = Field(default=("frozen",), min_length=1)
    alpha: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    beta_inv: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    step_size: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.2,), min_length=1)
    reward_noise: tuple[NonNegative, ...] = Field(default=(0.0,), min_length=1)
    base_noise: tuple[NonNegative, ...] = Field(default=(0.0,), min_length=1)
    seeds: int = Field(default=16, ge=1, le=10**6)
    seed: int = Field(default=0, ge=0, lt=2**32)
    steps: int = Field(default=2000, ge=1, le=10**8)
    record_every: int | None = Field(default=None, ge=1)
    k: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = (1, 4, 16)
    batch: int = Field(default=256, ge=1, le=10**5)

    @model_validator(mode="after")
    def _grid_is_usable(self) -> Self:
        for axis in (*AXES, "k"):
            given = getattr(self, axis)
            if len(set(given)) < len(given):
                raise ValueError(f"{axis}: got {', '.join(map(str, given))}, allowed: each value once")
        if self.every > self.steps:
            raise ValueError(f"record_every: got {self.record_every}, allowed: at most steps = {self.steps}")
        problem, family = self.problem()  # texts first: their errors are the likelier ones
        points = self.points()
        if len(points) * self.seeds > MOST_RUNS:
            raise ValueError(f"seeds: got {self.seeds} for {len(points)} settings, allowed: at most {MOST_RUNS} runs")
        for point in points:
            w_h = point.objective.coefficients.w_h
            check(point.columns["learner"], point.options, w_h, point.columns["step_size"], family.separate)
            setting(point.objective, problem, point.columns["step_size"])
        return self

    @property
    def every(self) -> int:
        """Updates between two records."""
        return self.record_every or max(1, self.steps // 100)

    def problem(self) -> tuple[Problem, Family]:
        """Return the outcomes, without those that the base excludes, and the family of policies over them.

        Raises:
            InputError: a text cannot be used, or there are too many sequences.
        """
        if self.policy == "table":
            whole = parse_problem(self.base, self.reward, self.length)
            live = whole.support
            return Problem(whole.base[live], whole.reward[live], whole.length[live]), SEPARATE
        if (self.base, self.reward, self.length) != (None, None, None):
            raise InputError("policy", self.policy, "table, where base, reward or length are given")
        return _sequences(self.tokens, self.hazard, self.longest, self.correct, self.policy == "tree")

    def outcomes(self) -> NDArray[np.int64]:
        """Return the numbers, in the base as it was given, of the outcomes of :meth:`problem`."""
        if self.policy == "table":
            return np.flatnonzero(parse_problem(self.base, self.reward, self.length).support)
        return np.arange(self.problem()[0].n)

    def points(self) -> list[Point]:
        """Return the settings in their fixed order: the last axis of ``AXES`` runs fastest.

        Raises:
            pydantic.ValidationError: a combination is no objective.
        """
        found = []
        for values in itertools.product(*(getattr(self, axis) for axis in AXES)):
            columns: dict[str, Any] = dict(zip(AXES, values, strict=True))
            objective = Objective.model_validate({name: columns[name] for name in OBJECTIVE})
            options = Options(
                group_size=columns["group_size"],
                optimizer=columns["optimizer"],
                kl=columns["kl"],
                reference_moves=objective.refresh_every is not None,
            )
            found.append(Point(columns, objective, options))
        return found

    def setting(self, point: Point, problem: Problem) -> Setting:
        """Return a point's setting on the grid's problem."""
        noise = {name: point.columns[name] for name in ("reward_noise", "base_noise")}
        return setting(point.objective, problem, point.columns["step_size"], **noise)


@lru_cache(maxsize=8)
def _sequences(
    tokens: tuple[float, ...], hazard: float, longest: int, correct: int | None, by_position: bool
) -> tuple[Problem, Family]:
    """Return the sequences once for each request, so that what is compiled for their family is found again."""
    return sequences(np.array(tokens), hazard, longest, correct, by_position=by_position)
