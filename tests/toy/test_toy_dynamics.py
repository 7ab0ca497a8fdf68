"""The toy's updates against an ODE solver, automatic differentiation, finite differences and full enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sharpen.objective import PRESETS, InputError, Objective
from sharpen.theory.flow import limit
from sharpen.theory.problem import Problem
from sharpen.toy.engine import Progress, run, start
from sharpen.toy.learners import LEARNERS, natural, rloo, rloo_direction, softmax

PROBLEM = Problem([0.4, 0.25, 0.15, 0.12, 0.08], [0, 1, 0, 1, 0], [1, 2, 3, 4, 5])
OBJECTIVES = {
    **PRESETS,
    "tempered-mean": Objective(alpha=2, normalization="mean"),
    "sharpening-mean": Objective(alpha=1, mode="optimization", normalization="mean"),
    "flattened": Objective(alpha=0.5),
    "mixed": Objective(alpha=0.5, beta_inv=2, mode="optimization"),
}


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    n = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Problem(rng.dirichlet(np.ones(n)), rng.normal(size=n), rng.integers(1, 6, size=n))


def finish(name: str, objective: Objective, problem: Problem, eta: float, steps: int, **options: int) -> np.ndarray:
    """Return the last policies, shape [seeds, n]."""
    seeds, group = options.get("seeds", 1), options.get("group_size", 8)
    learner = LEARNERS[name](objective, problem, eta, group)
    every = options.get("record_every", steps)
    *_, last = run(learner, start(learner, problem.log_base, seeds), steps=steps, record_every=every, seed=0)
    return np.exp(last.log_policy[-1])


def replicator(objective: Objective, problem: Problem) -> Callable[[float, np.ndarray], np.ndarray]:
    """The natural-gradient flow of log pi, from the table of coefficients in plain NumPy: the oracle."""
    w, x = objective.coefficients, objective.length_exponent
    log_p = np.log(problem.base)
    constant = w.w_r * problem.reward + (w.w_p - w.w_h) * log_p / problem.length**x + w.w_h * log_p

    def field(_: float, log_pi: np.ndarray) -> np.ndarray:
        A = constant - w.w_h * log_pi
        return A - np.exp(log_pi) @ A

    return field


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_the_natural_gradient_follows_the_flow_to_first_order(objective: Objective) -> None:
    horizon = 2.0
    exact = solve_ivp(
        replicator(objective, PROBLEM), (0, horizon), PROBLEM.log_base, rtol=1e-11, atol=1e-13, method="DOP853"
    ).y[:, -1]
    sizes = np.array([0.04, 0.02, 0.01])
    errors = [
        np.abs(np.log(finish("natural", objective, PROBLEM, eta, round(horizon / eta))[0]) - exact).max()
        for eta in sizes
    ]
    if objective.coefficients.w_h == 0.0:
        assert max(errors) < 1e-9  # without entropy A is constant and the step in log space is exact
    else:
        order = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
        assert order == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_the_natural_gradient_ends_where_the_theory_says(objective: Objective) -> None:
    end = finish("natural", objective, PROBLEM, 0.2, 8000)[0]
    np.testing.assert_allclose(end, limit(objective, PROBLEM, PROBLEM.base), atol=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_the_softmax_step_is_the_gradient_of_the_objective(objective: Objective) -> None:
    with jax.enable_x64():
        logits = jnp.asarray(np.random.default_rng(0).normal(size=PROBLEM.n))

        def value(theta: jax.Array) -> jax.Array:
            return objective.value(
                policy_logprob=jax.nn.log_softmax(theta),
                reward=PROBLEM.reward,
                ref_logprob=jnp.asarray(PROBLEM.log_base),
                length=PROBLEM.length,
            )

        learner = softmax(objective, PROBLEM, 1e-3, 8)
        state = learner.init(jnp.asarray(PROBLEM.log_base))._replace(logits=jax.nn.log_softmax(logits))
        moved = (learner.step(state, jax.random.key(0)).logits - state.logits) / 1e-3
        gradient = jax.grad(value)(logits)
        numeric = [float(value(logits + h) - value(logits - h)) / 2e-6 for h in 1e-6 * jnp.eye(PROBLEM.n)]
    # A step is known up to the constant that normalising the logits adds. NumPy's mean: outside the block above JAX
    # would compute it in single precision.
    moved, gradient = np.asarray(moved), np.asarray(gradient)
    np.testing.assert_allclose(moved - moved.mean(), gradient - gradient.mean(), atol=1e-9)
    np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_the_softmax_gradient_approaches_a_vertex_like_one_over_t() -> None:
    """Near the mode d(1 - pi)/dt is proportional to (1 - pi)^2, so ten times the updates leave a tenth of the gap."""
    gaps = [1.0 - finish("softmax", PRESETS["sharpening"], PROBLEM, 1.0, steps)[0, 0] for steps in (3000, 30000)]
    assert gaps[0] / gaps[1] == pytest.approx(10.0, rel=0.05)


@settings(max_examples=25)
@given(problems(), st.sampled_from(list(OBJECTIVES.values())), st.integers(2, 3), st.integers(0, 2**32 - 1))
def test_rloos_exact_expectation_is_the_softmax_gradient(
    problem: Problem, objective: Objective, G: int, seed: int
) -> None:
    with jax.enable_x64():
        log_pi = jax.nn.log_softmax(jnp.asarray(np.random.default_rng(seed).normal(size=problem.n)))
        reward = objective.pseudo_reward(
            reward=jnp.asarray(problem.reward),
            ref_logprob=jnp.asarray(problem.log_base),
            policy_logprob=log_pi,
            length=jnp.asarray(problem.length),
        )
        groups = jnp.asarray(list(itertools.product(range(problem.n), repeat=G)))
        directions = jax.vmap(lambda group: rloo_direction(reward, log_pi, group))(groups)
        chances = jnp.exp(log_pi[groups].sum(axis=1))
        mean, total = np.asarray(chances @ directions), float(chances.sum())
        pi = np.exp(np.asarray(log_pi))
    assert total == pytest.approx(1.0)
    exact = pi * (np.asarray(reward) - pi @ np.asarray(reward))
    np.testing.assert_allclose(mean, exact, atol=1e-12 * max(1.0, float(np.abs(reward).max())))


def test_rloo_samples_from_the_policy() -> None:
    """With a reward on one outcome, the first update counts how often it was drawn."""
    objective, group, seeds, eta = PRESETS["task-reward"], 4, 4000, 1e-6
    problem = Problem(PROBLEM.base, [0, 1, 0, 0, 0])
    end = finish("rloo", objective, problem, eta, 1, seeds=seeds, group_size=group)
    # k hits among G: the outcome's logit rises by eta k (G - k) / (G (G - 1)); rank those values back to counts.
    rise = np.log(end[:, 1] / end[:, 0]) - np.log(problem.base[1] / problem.base[0])
    mixed = np.count_nonzero(rise > eta * 1e-3)
    chance = 1 - problem.base[1] ** group - (1 - problem.base[1]) ** group
    assert scipy.stats.binomtest(mixed, seeds, chance).pvalue > 1e-4


@pytest.mark.parametrize("name", ["task-reward", "sharpening", "tempered", "tilted"])
def test_rloo_ends_where_the_theory_says(name: str) -> None:
    problem, objective = Problem(PROBLEM.base, PROBLEM.reward), PRESETS[name]
    policies = finish("rloo", objective, problem, 0.2, 4000, seeds=32, group_size=16)
    if name == "task-reward":
        assert np.all(policies[:, [1, 3]].sum(axis=1) > 0.99)  # on the face of correct outcomes, anywhere on it
    else:
        np.testing.assert_allclose(policies.mean(axis=0), limit(objective, problem, problem.base), atol=0.02)


def test_the_natural_gradient_keeps_ratios_among_correct_outcomes() -> None:
    end = finish("natural", PRESETS["task-reward"], PROBLEM, 0.1, 3000)[0]
    assert end[1] / end[3] == pytest.approx(PROBLEM.base[1] / PROBLEM.base[3], rel=1e-9)


def test_each_refresh_multiplies_the_exponent_by_alpha() -> None:
    """Tempered flow between refreshes long enough to converge: log pi is alpha^k log p after k of them."""
    K, alpha = 400, 1.3
    objective = Objective(alpha=alpha, reference=f"refresh:{K}")
    for rounds in (1, 2, 3):
        end = finish("natural", objective, PROBLEM, 0.2, K * rounds)[0]
        expected = PROBLEM.base ** (alpha**rounds)
        np.testing.assert_allclose(end, expected / expected.sum(), rtol=1e-8)


def test_self_sharpening_ends_in_the_mode_and_flattening_in_the_uniform_policy() -> None:
    up = finish("natural", Objective(alpha=1.5, reference="policy"), PROBLEM, 0.1, 2000)[0]
    down = finish("natural", Objective(alpha=0.5, reference="policy"), PROBLEM, 0.1, 2000)[0]
    np.testing.assert_allclose(up, [1, 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(down, 0.2, atol=1e-9)


@pytest.mark.parametrize("name", list(LEARNERS))
@settings(max_examples=10)
@given(problems(), st.sampled_from(list(OBJECTIVES.values())))
def test_every_learner_keeps_a_normalised_policy(name: str, problem: Problem, objective: Objective) -> None:
    eta = 0.5 / max(1.0, objective.coefficients.w_h)
    policies = finish(name, objective, problem, eta, 50, seeds=2)
    np.testing.assert_allclose(policies.sum(axis=1), 1.0, atol=1e-12)
    assert np.all(policies >= 0)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_a_run_continued_from_any_chunk_is_the_same_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = LEARNERS[name](Objective(alpha=2, reference="refresh:7"), PROBLEM, 0.1, 4)
    first = start(learner, PROBLEM.log_base, 3)
    *_, whole = run(learner, first, steps=60, record_every=5, seed=1)
    monkeypatch.setattr("sharpen.toy.engine.CHUNK_UPDATES", 15 * 3)
    parts: list[Progress] = list(run(learner, first, steps=60, record_every=5, seed=1))
    assert len(parts) == 4
    for middle in parts[:-1]:
        *_, continued = run(learner, middle, steps=60, record_every=5, seed=1)
        for left, right in zip(continued, whole, strict=True):
            np.testing.assert_array_equal(left, right)


def test_seeds_differ_and_the_same_seed_repeats() -> None:
    first, second = (finish("rloo", PRESETS["tilted"], PROBLEM, 0.2, 20, seeds=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first[:, 0])) == 3


def test_unusable_step_and_group_sizes() -> None:
    with pytest.raises(InputError, match=r"step_size: got 2\.5, allowed: below 2"):
        natural(PRESETS["tempered"], PROBLEM, 2.5, 8)
    with pytest.raises(InputError, match="group_size: got 1"):
        rloo(PRESETS["tempered"], PROBLEM, 0.1, 1)
