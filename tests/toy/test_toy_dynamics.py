"""The toy's updates against an ODE solver, automatic differentiation, finite differences and full enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sharpen.objective import PRESETS, InputError, Objective
from sharpen.theory.core.flow import limit, softmax_field, vector_field
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.engine import Ensemble, Machine, Progress, log_policy_only, run, run_keys, stack, start
from sharpen.toy.dynamics.updates import check, make
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting

PROBLEM = Problem([0.4, 0.25, 0.15, 0.12, 0.08], [0, 1, 0, 1, 0], [1, 2, 3, 4, 5])
OBJECTIVES = {
    **PRESETS,
    "tempered-mean": Objective(alpha=2, normalization="mean"),
    "sharpening-mean": Objective(alpha=1, mode="optimization", normalization="mean"),
    "flattened": Objective(alpha=0.5),
    "mixed": Objective(alpha=0.5, beta_inv=2, mode="optimization"),
}


@st.composite
def problems(draw: st.DrawFn, n: int = 3) -> Problem:
    """Draw problems of one shape, so that compiled computations are found again."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Problem(rng.dirichlet(np.ones(n)), rng.normal(size=n), rng.integers(1, 6, size=n))


def finish(name: str, objective: Objective, problem: Problem, eta: float, steps: int, **options: int) -> np.ndarray:
    """Return the last policies, shape [seeds, n]."""
    runs = ensemble(name, objective, problem, eta, options.get("seeds", 1), options.get("group_size", 8))
    *_, last = run(runs, start(runs), steps=steps, record_every=options.get("record_every", steps))
    return np.exp(last.records[-1, :, 0])


def ensemble(name: str, objective: Objective, problem: Problem, eta: float, seeds: int, group: int) -> Ensemble:
    machine = Machine(name, SEPARATE, Options(group_size=group), log_policy_only)
    return Ensemble(machine, stack([setting(objective, problem, eta)] * seeds), run_keys(0, seeds))


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


FLOWS = OBJECTIVES | {"self-sharpening": Objective(alpha=1.5, reference="policy", normalization="mean")}


@pytest.mark.parametrize("objective", FLOWS.values(), ids=FLOWS.keys())
@pytest.mark.parametrize(("name", "field"), [("natural-flow", vector_field), ("softmax-flow", softmax_field)])
def test_flows_follow_the_theorys_vector_field(
    name: str, field: Callable[[Objective, Problem, np.ndarray], np.ndarray], objective: Objective
) -> None:
    def velocity(_: float, pi: np.ndarray) -> np.ndarray:
        return field(objective, PROBLEM, pi / pi.sum())

    exact = solve_ivp(velocity, (0, 2.0), PROBLEM.base, rtol=1e-12, atol=1e-14, method="DOP853").y[:, -1]
    np.testing.assert_allclose(finish(name, objective, PROBLEM, 0.1, 20)[0], exact, atol=1e-8)


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

        at = setting(objective, PROBLEM, 1e-3)
        learner = make("softmax", at, SEPARATE, Options())
        state = learner.init(jax.random.key(0))
        log_pi = jax.nn.log_softmax(logits)[None]
        state = state._replace(parameters=state.parameters._replace(theta=log_pi))
        moved = (learner.step(state, jax.random.key(0)).parameters.theta - state.parameters.theta)[0] / 1e-3
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


@cache
def every_group(n: int, G: int) -> np.ndarray:
    return np.array(list(itertools.product(range(n), repeat=G)))


@cache
def directions(name: str, G: int) -> Callable[..., jax.Array]:
    """Return the map from a problem's numbers to the descent direction of each group: one program for all problems."""
    learner = LEARNERS.get(name)
    assert isinstance(learner, SampledLearner)

    def direction(group: jax.Array, theta: jax.Array, task: jax.Array, log_base: jax.Array, w_h: jax.Array) -> Any:
        log_pi = jax.nn.log_softmax(theta)
        batch = Batch(*(table[group][None] for table in (task, log_base, log_pi, log_pi)))

        def loss(theta: jax.Array) -> jax.Array:
            log_pi = jax.nn.log_softmax(theta)[group][None]
            zero, one = jnp.zeros((1, 1)), jnp.ones(1)
            return learner.loss(log_pi, batch, one, w_h, zero, Options(group_size=G))

        return -jax.grad(loss)(theta)

    return jax.jit(jax.vmap(direction, in_axes=(0, None, None, None, None)))


def exact_expectation(name: str, objective: Objective, problem: Problem, logits: np.ndarray, G: int) -> np.ndarray:
    """Return a sampled learner's expected descent direction, by enumerating all n^G groups, shape [n]."""
    at, w_h = setting(objective, problem, 1.0), objective.coefficients.w_h
    task = at.on_reward[0] * at.reward[0] + (at.on_reference[0] - w_h) * problem.log_base
    groups = every_group(problem.n, G)
    with jax.enable_x64():
        found = np.asarray(directions(name, G)(groups, logits, np.asarray(task), problem.log_base, w_h))
    chances = np.exp((logits - np.logaddexp.reduce(logits))[groups].sum(axis=1))
    assert float(chances.sum()) == pytest.approx(1.0)
    return chances @ found


def exact_gradient(objective: Objective, problem: Problem, logits: np.ndarray) -> np.ndarray:
    w, x = objective.coefficients, objective.length_exponent
    log_pi = logits - np.logaddexp.reduce(logits)
    log_p, pi = np.log(problem.base), np.exp(log_pi)
    A = w.w_r * problem.reward + (w.w_p - w.w_h) * log_p / problem.length**x + w.w_h * (log_p - log_pi)
    return pi * (A - pi @ A)


@settings(max_examples=25)
@given(problems(), st.sampled_from(list(OBJECTIVES.values())), st.integers(2, 3), st.integers(0, 2**32 - 1))
def test_exact_expectations_of_the_unbiased_learners_are_the_gradient(
    problem: Problem, objective: Objective, G: int, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=problem.n)
    exact = exact_gradient(objective, problem, logits)
    scale = max(1.0, float(np.abs(exact).max()))
    for name in ("reinforce", "rloo", "off-policy"):
        np.testing.assert_allclose(exact_expectation(name, objective, problem, logits, G), exact, atol=1e-11 * scale)
    if objective.coefficients.w_h > 0.0:  # VarGrad: w_h times the gradient, less a factor for its own sample's mean
        found = exact_expectation("tb-batch", objective, problem, logits, G)
        w_h = objective.coefficients.w_h
        np.testing.assert_allclose(found, w_h * (1 - 1 / G) * exact, atol=1e-11 * scale * max(1.0, w_h))


@pytest.mark.parametrize("name", ["grpo", "unlikeliness", "ppo"])
def test_the_biased_learners_depart_from_the_gradients_direction(name: str) -> None:
    problem = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.4])
    exact = exact_gradient(PRESETS["task-reward"], problem, problem.log_base)
    found = exact_expectation(name, PRESETS["task-reward"], problem, problem.log_base, 3)
    cosine = found @ exact / np.linalg.norm(found) / np.linalg.norm(exact)
    assert cosine < 0.9999
    assert cosine > 0.0


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


WHOLE = {"steps": 60, "record_every": 5}  # in both tests of every learner, of three runs with G = 4: one program each


@pytest.mark.parametrize("name", LEARNERS.names())
@settings(max_examples=10)
@given(problems(PROBLEM.n), st.sampled_from(list(OBJECTIVES.values())))
def test_every_learner_keeps_a_normalised_policy(name: str, problem: Problem, objective: Objective) -> None:
    if getattr(LEARNERS.get(name), "needs_entropy", False) and objective.coefficients.w_h == 0.0:
        return
    eta = 0.5 / max(1.0, objective.coefficients.w_h)
    policies = finish(name, objective, problem, eta, seeds=3, group_size=4, **WHOLE)
    np.testing.assert_allclose(policies.sum(axis=1), 1.0, atol=1e-12)
    assert np.all(policies >= 0)


@pytest.mark.parametrize("name", LEARNERS.names())
def test_a_run_continued_from_any_chunk_is_the_same_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ensemble(name, Objective(alpha=2, reference="refresh:7"), PROBLEM, 0.1, 3, 4)
    first = start(runs)
    *_, whole = run(runs, first, **WHOLE)
    monkeypatch.setattr("sharpen.toy.dynamics.engine.CHUNK_UPDATES", 15 * 3)
    parts: list[Progress] = list(run(runs, first, **WHOLE))
    assert len(parts) == 4
    for middle in parts[:-1]:
        *_, continued = run(runs, middle, **WHOLE)
        for left, right in zip(jax.tree.leaves(continued), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(left, right)


def test_seeds_differ_and_the_same_seed_repeats() -> None:
    first, second = (finish("rloo", PRESETS["tilted"], PROBLEM, 0.2, 20, seeds=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first[:, 0])) == 3


def test_unusable_step_and_group_sizes() -> None:
    with pytest.raises(InputError, match=r"step_size: got 2\.5, allowed: below 2"):
        check("natural", Options(), 1.0, 2.5, separate=True)
    with pytest.raises(InputError, match="group_size: got 1"):
        check("rloo", Options(group_size=1), 1.0, 0.1, separate=True)
    with pytest.raises(InputError, match="learner: got 'tb'"):
        check("tb", Options(), 0.0, 0.1, separate=True)
    with pytest.raises(InputError, match="learner: got 'sgd'"):
        check("sgd", Options(), 0.0, 0.1, separate=True)
