"""Families of policies: the base at the start, gradients by finite differences, the natural gradient's invariance."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from sharpen.objective import PRESETS, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, run_keys, stack, start
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.automata import sequences
from sharpen.toy.problems.policies import SEPARATE, SHARED, Family
from sharpen.toy.problems.setting import Setting, setting

TOKENS, HAZARD, LONGEST = np.array([0.6, 0.4]), 0.3, 3


def probability(name: tuple[int, ...]) -> float:
    """A sequence's probability, written out: the oracle."""
    stop = HAZARD if len(name) < LONGEST else 1.0
    return float(np.prod([(1 - HAZARD) * TOKENS[token] for token in name]) * stop)


@pytest.mark.parametrize("by_position", [True, False])
def test_sequences_start_at_the_base(by_position: bool) -> None:
    problem, family = sequences(TOKENS, HAZARD, LONGEST, 1, by_position=by_position)
    names = [name for size in range(LONGEST + 1) for name in itertools.product(range(2), repeat=size)]
    np.testing.assert_allclose(problem.base, [probability(name) for name in names], rtol=1e-12)
    assert problem.reward.tolist() == [float(name[-1:] == (1,)) for name in names]
    assert problem.length.tolist() == [len(name) + 1 for name in names]
    at = setting(PRESETS["tempered"], problem, 0.1)
    with jax.enable_x64():
        np.testing.assert_allclose(family.log_policy(at, family.start(at))[0], problem.log_base, atol=1e-12)
    states = sum(2**size for size in range(LONGEST)) if by_position else 1
    assert family.start(at).shape == (3 * states,)


def one_step(kind: str, family: Family, at: Setting, eta: float) -> np.ndarray:
    """Return the change of log pi, shape [P, n], per unit of step size."""
    with jax.enable_x64():
        learner = make(kind, at._replace(step_size=eta), family, Options())
        before = learner.init(jax.random.key(0))
        after = learner.step(before, jax.random.key(0))
        return np.asarray(
            family.log_policy(at, after.parameters.theta) - family.log_policy(at, before.parameters.theta)
        ) / (eta)


def test_the_natural_gradient_does_not_depend_on_how_the_policy_is_written() -> None:
    problem, tree = sequences(TOKENS, HAZARD, LONGEST, 1, by_position=True)
    at = setting(Objective(alpha=2, beta_inv=3), problem, 1.0)
    np.testing.assert_allclose(one_step("natural", tree, at, 1e-6), one_step("natural", SEPARATE, at, 1e-6), atol=1e-4)
    assert np.abs(one_step("softmax", tree, at, 1e-6) - one_step("softmax", SEPARATE, at, 1e-6)).max() > 0.01


@pytest.mark.parametrize("by_position", [True, False])
def test_the_softmax_gradient_of_sequences_by_finite_differences(by_position: bool) -> None:
    objective = Objective(alpha=1.5, normalization="mean")
    problem, family = sequences(TOKENS, HAZARD, LONGEST, 1, by_position=by_position)
    at = setting(objective, problem, 1.0)
    with jax.enable_x64():
        theta = family.start(at) + 0.1 * np.random.default_rng(0).normal(size=family.start(at).shape)

        def value(theta: np.ndarray) -> float:
            log_pi = np.asarray(family.log_policy(at, jnp.asarray(theta)))[0]
            score = problem.log_base / problem.length
            return float(np.exp(log_pi) @ (0.5 * score + problem.log_base - log_pi))

        numeric = [(value(theta + h) - value(theta - h)) / 2e-6 for h in 1e-6 * np.eye(len(theta))]
        learner = make("softmax", at, family, Options())
        state = learner.init(jax.random.key(0))
        at_theta = state.parameters._replace(theta=jnp.asarray(theta))
        state = state._replace(parameters=at_theta)
        moved = np.asarray(learner.step(state, jax.random.key(0)).parameters.theta) - np.asarray(theta)
    np.testing.assert_allclose(moved, numeric, atol=1e-7)


def test_a_shared_shift_learns_the_mean_over_prompts() -> None:
    """Two prompts with opposite bases and one correct outcome: the shift follows the ODE of the mean gradient."""
    bases, reward = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]), np.array([0.0, 1.0, 0.0])
    problems = [Problem(base, reward) for base in bases]
    at = setting(PRESETS["task-reward"], problems, 1e-3, weights=np.array([0.25, 0.75]))

    def field(_: float, shift: np.ndarray) -> np.ndarray:
        pi = bases * np.exp(shift)
        pi /= pi.sum(axis=1, keepdims=True)
        return np.array([0.25, 0.75]) @ (pi * (reward - (pi @ reward)[:, None]))

    exact = solve_ivp(field, (0, 2.0), np.zeros(3), rtol=1e-10, atol=1e-12).y[:, -1]
    runs = Ensemble(Machine("softmax", SHARED, Options(), log_policy_only), stack([at]), run_keys(0, 1))
    *_, last = run(runs, start(runs), steps=2000, record_every=2000)
    expected = bases * np.exp(exact)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(last.records[-1, 0]), expected, atol=1e-3)


def test_the_natural_gradient_of_a_shared_shift_is_fishers() -> None:
    """F^+ g at the base, F and g the means over prompts by weight, written out for rewards that no shift can meet."""
    bases, rewards = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    weights = np.array([0.25, 0.75])
    problems = [Problem(*one) for one in zip(bases, rewards, strict=True)]
    at = setting(PRESETS["task-reward"], problems, 1.0, weights=weights)
    with jax.enable_x64():
        learner = make("natural", at, SHARED, Options(reference_moves=False))
        key = jax.random.key(0)
        moved = quickly(lambda key: learner.step(learner.init(key), key).parameters.theta)(key)
    g = sum(w * p * (r - p @ r) for w, p, r in zip(weights, bases, rewards, strict=True))
    fisher = sum(w * (np.diag(p) - np.outer(p, p)) for w, p in zip(weights, bases, strict=True))
    np.testing.assert_allclose(moved, np.linalg.pinv(fisher) @ g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["natural", "softmax"])
def test_separate_prompts_do_not_mix(kind: str) -> None:
    """Each moves as alone; the softmax gradient, not the natural one, counts a prompt by its weight."""
    problems, weights = [Problem([0.7, 0.3], [0, 1]), Problem([0.2, 0.8], [0, 1])], np.array([0.25, 0.75])
    steps = 0.05 * weights if kind == "softmax" else np.full(2, 0.05)
    settings = [setting(PRESETS["tilted"], problems, 0.05, weights=weights)]
    settings += [setting(PRESETS["tilted"], *one) for one in zip(problems, steps.tolist(), strict=True)]
    runs = [
        Ensemble(Machine(kind, SEPARATE, Options(), log_policy_only), stack([at]), run_keys(0, 1)) for at in settings
    ]
    both, first, second = (list(run(one, start(one), steps=50, record_every=50))[-1].records[-1, 0] for one in runs)
    np.testing.assert_allclose(both, np.concatenate([first, second]), atol=1e-12)
