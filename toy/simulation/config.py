"""What `sharpen toy simulate` runs, validated."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sharpen.objective import PRESETS, Objective
from sharpen.objective.settings import Settings
from sharpen.objective.storage.reading import read_mapping
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.updates import check, check_utility
from sharpen.toy.learners.parts.learner import EPSILON, Options
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.numbers import Numbers
from sharpen.toy.problems.prompts import parse_task
from sharpen.toy.problems.setting import check_size, check_verifier, supported

DEFAULT_LEARNERS = ("natural", "softmax", "rloo")
MAX_RECORDED = 10**8  # numbers of one track, 800 MB


class SimulateConfig(Settings):
    """A simulation: every objective with every learner on one problem.

    Args:
        base: The base distribution, in the forms of ``sharpen theory`` or as numbers, shape [n]; None takes the default
            problem's. Numbers are kept as text, here and in the next two.
        reward: The task reward, likewise, or ``correlated:RHO:SEED`` (`sharpen.toy.problems.prompts`).
        length: Lengths of the outcomes; None for ones.
        objectives: By name; the name heads the figure's column.
        learners: Names in ``sharpen.toy.learners.registry.LEARNERS``, ``module:object``, or an entry point's.
        steps: Updates.
        step_size: eta by learner, for those that do not take the default.
        group_size: Samples of one update.
        optimizer: ``sgd``, ``momentum`` or ``adam``, of all learners but the flows.
        epsilon: What Adam adds to the root of its averaged square.
        kl: Where the KL estimate of a sampled learner stands, see ``sharpen.toy.learners.parts.learner.KL_PLACES``.
        reward_noise: Standard deviation of noise on every sampled reward.
        base_noise: Standard deviation of an error of the log p that the objective sees, drawn once per run.
        true_positive: Share of right samples that the verifier calls right, t; exact learners see the mean verdict.
        false_positive: Share of wrong samples that it calls right, f.
        seeds: Independent runs of a sampled learner.
        seed: Of all random numbers.
        record_every: Updates between two records.

    Raises:
        pydantic.ValidationError: a setting is out of range.
    """

    base: Numbers | None = None
    reward: Numbers | None = None
    length: Numbers | None = None
    objectives: dict[str, Objective] = Field(default_factory=lambda: dict(PRESETS), min_length=1)
    learners: tuple[str, ...] = Field(default=DEFAULT_LEARNERS, min_length=1)
    steps: int = Field(default=3000, ge=1, le=10**9)
    step_size: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    group_size: int = Field(default=16, ge=2, le=10**6)
    optimizer: str = "sgd"
    epsilon: float = Field(default=EPSILON, gt=0)
    kl: str = "k1-reward"
    reward_noise: float = Field(default=0.0, ge=0)
    base_noise: float = Field(default=0.0, ge=0)
    true_positive: float = Field(default=1.0, ge=0, le=1)
    false_positive: float = Field(default=0.0, ge=0, le=1)
    seeds: int = Field(default=16, ge=1, le=10**6)
    seed: int = Field(default=0, ge=0, lt=2**32)
    record_every: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        for kind in (*self.learners, *self.step_size):
            LEARNERS.get(kind, "learners")
        if len(set(self.learners)) < len(self.learners):
            raise ValueError(f"learners: got {', '.join(self.learners)}, allowed: each one once")
        problem = self.problem()
        for objective, kind in itertools.product(self.objectives.values(), self.learners):
            eta = self.step_size_of(kind)
            check(kind, self.options(objective), objective.coefficients.w_h, eta, separate=True)
            check_size(objective, [supported(problem)], eta)
            check_verifier(objective, [supported(problem)], self.verifier)
            check_utility(kind, self.options(objective), objective, [supported(problem)], eta, self.reward_noise)
        numbers = (self.steps // self.record_every + 1) * self.seeds * problem.n
        if numbers > MAX_RECORDED:
            raise ValueError(
                f"record_every: got {self.record_every}, which records {numbers:.3g} numbers, allowed: at most "
                f"{MAX_RECORDED:.3g} (outcomes x seeds x records)"
            )
        return self

    def step_size_of(self, kind: str) -> float:
        """Return eta of a learner."""
        return self.step_size.get(kind, LEARNERS.get(kind).step_size)

    def options(self, objective: Objective) -> Options:
        """Return what is fixed when a learner is compiled."""
        return Options(
            group_size=self.group_size,
            optimizer=self.optimizer,
            epsilon=self.epsilon,
            kl=self.kl,
            reference_moves=objective.refresh_every is not None,
            noisy_reward=self.reward_noise > 0,
            utility=objective.utility,
            noisy_verifier=self.verifier != (1.0, 0.0),
        )

    @property
    def verifier(self) -> tuple[float, float]:
        """True and false positive rates."""
        return self.true_positive, self.false_positive

    def problem(self) -> Problem:
        """Return the problem that the texts describe.

        Raises:
            InputError: a text cannot be used.
        """
        return parse_task(self.base, self.reward, self.length)


def load_settings(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file of settings.

    Raises:
        InputError: the file cannot be read or is not a mapping.
    """
    return read_mapping(path, "config", "simulation settings")
