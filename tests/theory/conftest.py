"""Random problems and objectives, and the flow written out once more from the table of regimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.proofs.result import Derivation, Result, Theorem

NUMBER = st.floats(0.05, 1.0)


@st.composite
def problems(draw: st.DrawFn, most: int = 5, lengths: bool = True) -> Problem:
    n = draw(st.integers(2, most))
    base = np.array(draw(st.lists(NUMBER, min_size=n, max_size=n)))
    reward = draw(st.lists(st.floats(-1.0, 1.0), min_size=n, max_size=n))
    length = draw(st.lists(st.integers(1, 6), min_size=n, max_size=n)) if lengths else [1] * n
    return Problem(base / base.sum(), reward, length)


@st.composite
def objectives(draw: st.DrawFn, mode: str | None = None, reference: str = "frozen") -> Objective:
    chosen = mode or draw(st.sampled_from(["sampling", "optimization"]))
    normalization = draw(st.sampled_from(["sum", "mean", "weighted_mean"]))
    fields = {
        "alpha": draw(st.sampled_from([0.5, 1.25, 2.0, 4.0])),
        "beta_inv": draw(st.sampled_from([0.0, 0.5, 1.0, 10.0])),
        "mode": chosen,
        "normalization": normalization,
        "weight": 0.5 if normalization == "weighted_mean" else None,
        "reference": reference,
    }
    return Objective.model_validate(fields)


@st.composite
def policies(draw: st.DrawFn, n: int) -> np.ndarray:
    weights = np.array(draw(st.lists(st.floats(0.02, 1.0), min_size=n, max_size=n)))
    return weights / weights.sum()


class Oracle:
    """A, J and the flow from the table of regimes, sharing no code with the package."""

    def __init__(self, objective: Objective, problem: Problem, support: Sequence[int] | None = None) -> None:
        kept = slice(None) if support is None else list(support)
        b = objective.beta_inv
        scale = 1.0 / b if b > 0 else 1.0
        exponent = {"sum": 0.0, "mean": 1.0, "weighted_mean": objective.weight}[objective.normalization]
        assert exponent is not None
        self.entropy = scale if objective.mode == "sampling" else 0.0
        self.kl_pair = self.entropy
        self.extra = ((objective.alpha - 1.0) if objective.mode == "sampling" else objective.alpha) * scale
        self.reward = problem.reward[kept] * (b > 0)
        self.shrink = problem.length[kept] ** -exponent
        self.log_base = np.log(problem.base[kept])
        self.moving = objective.reference != "frozen"

    def advantage(self, log_pi: np.ndarray) -> np.ndarray:
        log_p = log_pi if self.moving else self.log_base
        return self.reward + self.extra * self.shrink * log_p + self.kl_pair * (log_p - log_pi)

    def value(self, pi: np.ndarray) -> float:
        inside = pi > 0
        log_pi = np.log(pi, where=inside, out=np.zeros_like(pi))
        return float(np.sum(np.where(inside, pi * self.advantage(log_pi), 0.0)))

    def field(self, pi: np.ndarray) -> np.ndarray:
        advantage = self.advantage(np.log(pi))
        return pi * (advantage - pi @ advantage)

    def logit_velocity(self, _: float, theta: np.ndarray) -> np.ndarray:
        return self.advantage(theta - theta.max() - np.log(np.sum(np.exp(theta - theta.max()))))


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """What the test files share; a fixture, because test files cannot import each other."""
    return SimpleNamespace(problems=problems, objectives=objectives, policies=policies, Oracle=Oracle)


@pytest.fixture(scope="session")
def derived() -> Callable[..., Result]:
    """Return a result with its true claims, ``derived(theorem, seed)``: derived once for all tests that look at it."""

    @cache
    def found(theorem: Theorem, seed: int) -> Result:
        return theorem.derive(seed=seed)

    return found


@pytest.fixture
def refuted() -> Callable[..., bool]:
    """Return whether a theorem's proof fails with false claims, up to the first step that does, which saves time."""

    class FailedError(Exception):
        pass

    class Strict(Derivation):
        def _add(self, *args: Any, **kwargs: Any) -> Any:
            shown = super()._add(*args, **kwargs)
            if not self.steps[-1].holds:
                raise FailedError
            return shown

    def prove(theorem: Theorem, **claims: Any) -> bool:
        strict = Strict(np.random.default_rng(0))
        try:
            theorem.prove(strict, **claims)
            strict.close()
        except FailedError:
            return True
        return False

    return prove


@pytest.fixture
def default_problem() -> Problem:
    return Problem([0.40, 0.25, 0.15, 0.12, 0.08], [0.0, 1.0, 0.0, 1.0, 0.0])
