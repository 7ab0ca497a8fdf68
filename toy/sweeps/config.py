"""The grid of a sweep, validated, and its settings in their fixed order."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from sharpen.objective import InputError, Objective
from sharpen.toy.dynamics.engine import recorded
from sharpen.toy.dynamics.memory import fixed_bytes, run_bytes
from sharpen.toy.dynamics.observe import measures
from sharpen.toy.dynamics.updates import check, check_utility
from sharpen.toy.learners.parts.learner import EPSILON, Options
from sharpen.toy.problems.prompts import ProblemConfig, Task
from sharpen.toy.problems.setting import Setting, check_size, check_verifier, setting

NonNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, le=1)]
# Compiled apart, so outermost: runs that share them are neighbours.
COMPILED = ("learner", "group_size", "optimizer", "epsilon", "kl", "reference", "utility")
OBJECTIVE = ("reference", "utility", "mode", "normalization", "weight", "alpha", "beta_inv")
OTHER = ("step_size", "reward_noise", "base_noise", "true_positive", "false_positive")
AXES = COMPILED + OBJECTIVE[2:] + OTHER
MOST_RUNS = 10**7
MIB = 2**20
MOST_SIZES = 64  # lengths with a column of their own
RESERVED = 640  # MiB: Python, JAX, the compiled program and a part of the table on its way to the file


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


class SweepConfig(ProblemConfig):
    """A grid: every combination of the tuples, with ``seeds`` runs each, on one problem (:class:`ProblemConfig`).

    Args:
        learner: Names of learners (`sharpen.toy.learners.registry`), built in, ``module:object``, or an entry point's.
        group_size: Samples of an update.
        optimizer: ``sgd``, ``momentum`` or ``adam``.
        epsilon: What Adam adds to the root of its averaged square.
        kl: Where the KL estimate stands, see ``sharpen.toy.learners.parts.learner.KL_PLACES``.
        mode: Of the objective, as are the next six.
        normalization: Likewise.
        weight: Likewise.
        reference: Likewise.
        utility: Likewise.
        alpha: Likewise.
        beta_inv: Likewise.
        step_size: eta.
        reward_noise: Standard deviation of noise on sampled rewards.
        base_noise: Standard deviation of a fixed error of log p.
        true_positive: Share of right samples that the verifier calls right.
        false_positive: Share of wrong samples that it calls right.
        seeds: Runs of each setting.
        seed: Of all random numbers.
        steps: Updates.
        record_every: Updates between two records; None for about a hundred records.
        record_at: Updates after which to record, increasing, instead of evenly spaced ones; the start always is.
        k: Of pass@k.
        batch: Most runs that are computed together; a batch is the unit that is saved.
        memory: MiB that a process of the sweep may take: batches are made narrower, and fewer devices are used, where
            more would not fit (`sharpen.toy.dynamics.memory`).

    Raises:
        pydantic.ValidationError: a setting is out of range.
    """

    learner: tuple[str, ...] = Field(default=("rloo",), min_length=1)
    group_size: tuple[Annotated[int, Field(ge=1, le=10**5)], ...] = Field(default=(16,), min_length=1)
    optimizer: tuple[str, ...] = Field(default=("sgd",), min_length=1)
    epsilon: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(EPSILON,), min_length=1)
    kl: tuple[str, ...] = Field(default=("k1-reward",), min_length=1)
    mode: tuple[str, ...] = Field(default=("sampling",), min_length=1)
    normalization: tuple[str, ...] = Field(default=("sum",), min_length=1)
    weight: tuple[float | None, ...] = Field(default=(None,), min_length=1)
    reference: tuple[str, ...] = Field(default=("frozen",), min_length=1)
    utility: tuple[str, ...] = Field(default=("identity",), min_length=1)
    alpha: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    beta_inv: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    step_size: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.2,), min_length=1)
    reward_noise: tuple[NonNegative, ...] = Field(default=(0.0,), min_length=1)
    base_noise: tuple[NonNegative, ...] = Field(default=(0.0,), min_length=1)
    true_positive: tuple[Rate, ...] = Field(default=(1.0,), min_length=1)
    false_positive: tuple[Rate, ...] = Field(default=(0.0,), min_length=1)
    seeds: int = Field(default=16, ge=1, le=10**6)
    seed: int = Field(default=0, ge=0, lt=2**32)
    steps: int = Field(default=2000, ge=1, le=10**8)
    record_every: int | None = Field(default=None, ge=1)
    record_at: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    k: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = (1, 4, 16)
    batch: int = Field(default=256, ge=1, le=10**5)
    memory: int = Field(default=2048, ge=RESERVED + 64)

    @model_validator(mode="after")
    def _grid_is_usable(self) -> Self:
        for axis in (*AXES, "k"):
            given = getattr(self, axis)
            if len(set(given)) < len(given):
                raise ValueError(f"{axis}: got {', '.join(map(str, given))}, allowed: each value once")
        if self.every > self.steps:
            raise ValueError(f"record_every: got {self.record_every}, allowed: at most steps = {self.steps}")
        if self.record_at is not None:
            if self.record_every is not None:
                raise ValueError(f"record_at: got {self.record_at}, allowed: either record_at or record_every")
            if sorted(set(self.record_at)) != list(self.record_at) or self.record_at[-1] > self.steps:
                raise ValueError(f"record_at: got {self.record_at}, allowed: increasing, up to steps = {self.steps}")
        task = self.task()  # texts first: their errors are the likelier ones
        points = self.points()
        if len(points) * self.seeds > MOST_RUNS:
            raise ValueError(f"seeds: got {self.seeds} for {len(points)} settings, allowed: at most {MOST_RUNS} runs")
        for point in points:
            w_h, kind, eta = point.objective.coefficients.w_h, point.columns["learner"], point.columns["step_size"]
            check(kind, point.options, w_h, eta, task.family.separate)
            check_utility(kind, point.options, point.objective, task.prompts, eta, point.columns["reward_noise"])
        for utility in dict.fromkeys(point.objective.utility for point in points):
            self.setting(next(point for point in points if point.objective.utility == utility), task)
        for objective in frozenset(point.objective for point in points):
            check_size(objective, task.prompts, max(self.step_size))
            for verifier in itertools.product(self.true_positive, self.false_positive):
                check_verifier(objective, task.prompts, verifier)
        self.batch_width(task)
        return self

    @property
    def every(self) -> int:
        """Updates between two records."""
        return self.record_every or max(1, self.steps // 100)

    def recorded(self) -> list[int]:
        """Return the updates after which there is a record, 0 first."""
        if self.record_at is not None:
            return [0, *self.record_at]
        return recorded(self.steps, self.every)

    def sizes(self, task: Task) -> tuple[float, ...]:
        """Return the lengths whose probabilities are recorded: all, if there are several, up to 64."""
        found = np.unique([problem.length for problem in task.prompts])
        return tuple(found.tolist()) if 1 < found.size <= MOST_SIZES else ()

    def batch_width(self, task: Task) -> int:
        """Return how many runs are computed together, a function of the settings alone.

        Raises:
            InputError: ``memory`` has no room for a single run.
        """
        fixed, each = self._bytes(task)
        fits = ((self.memory - RESERVED) * MIB - fixed) // each
        if fits < 1:
            needed = RESERVED + 1 + (fixed + each) // MIB
            raise InputError("memory", self.memory, f"{needed} MiB or more for these prompts, samples and records")
        return min(self.batch, fits)

    def devices(self, task: Task) -> int:
        """Return how many devices may compute a batch at the same time within ``memory``."""
        fixed, each = self._bytes(task)
        return max(1, (self.memory - RESERVED) * MIB // (fixed + self.batch_width(task) * each))

    def _bytes(self, task: Task) -> tuple[int, int]:
        """Return what a batch takes whatever its width, and for each run."""
        learners = {(point.columns["learner"], point.options) for point in self.points()}
        names = measures(self.k, self.sizes(task))
        return fixed_bytes(task, learners), run_bytes(task, len(self.recorded()), len(names))

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
                epsilon=columns["epsilon"],
                kl=columns["kl"],
                reference_moves=objective.refresh_every is not None,
                utility=objective.utility,
                noisy_verifier=self.true_positive != (1.0,) or self.false_positive != (0.0,),
            )
            found.append(Point(columns, objective, options))
        return found

    def setting(self, point: Point, task: Task) -> Setting:
        """Return a point's setting on the grid's prompts."""
        return setting(
            point.objective,
            task.prompts,
            point.columns["step_size"],
            weights=task.weights,
            reward_noise=point.columns["reward_noise"],
            base_noise=point.columns["base_noise"],
            verifier=(point.columns["true_positive"], point.columns["false_positive"]),
        )
