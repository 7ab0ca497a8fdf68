"""Flows and their limits against integration, finite differences and the discrete training loop."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax

from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.flow import gradient, limit, softmax_field, vector_field
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem

REFERENCES = st.sampled_from(["frozen", "policy"])


@settings(max_examples=25)
@given(data=st.data())
def test_vector_field_is_the_replicator(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives(reference=data.draw(REFERENCES)))
    pi = data.draw(kit.policies(problem.n))
    field = vector_field(objective, problem, pi)
    np.testing.assert_allclose(field, kit.Oracle(objective, problem).field(pi), atol=1e-12)
    assert abs(field.sum()) < 1e-12


@settings(max_examples=25)
@given(data=st.data())
def test_gradient_is_that_of_the_value(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives())
    oracle = kit.Oracle(objective, problem)
    theta = np.array(data.draw(st.lists(st.floats(-2, 2), min_size=problem.n, max_size=problem.n)))
    numerical = np.asarray(approx_fprime(theta, lambda x: oracle.value(softmax(x)), 1e-7))
    np.testing.assert_allclose(gradient(objective, problem, theta), numerical, atol=2e-5)
    np.testing.assert_allclose(
        gradient(objective, problem, theta), gradient(objective, problem, theta + 500.0), atol=1e-12
    )


@settings(max_examples=25)
@given(data=st.data())
def test_softmax_field_is_the_gradient_pushed_to_the_simplex(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives())
    pi = data.draw(kit.policies(problem.n))
    theta, step = np.log(pi), 1e-6
    push = gradient(objective, problem, theta)
    numerical = (softmax(theta + step * push) - softmax(theta - step * push)) / (2 * step)
    np.testing.assert_allclose(softmax_field(objective, problem, pi), numerical, atol=1e-7)


def test_a_nearly_lost_outcome_returns_slowly_under_softmax_gradients(default_problem: Problem) -> None:
    """Near a vertex of wrong outcomes the correct one grows at rate O(pi^2), against O(pi) for natural gradients."""
    speeds = []
    for mass in (1e-3, 1e-4):
        pi = np.array([1 - mass, mass, 0, 0, 0])
        natural = vector_field(preset("task-reward"), default_problem, pi)[1]
        vanilla = softmax_field(preset("task-reward"), default_problem, pi)[1]
        speeds.append((natural, vanilla))
    assert speeds[0][0] / speeds[1][0] == pytest.approx(10, rel=0.01)
    assert speeds[0][1] / speeds[1][1] == pytest.approx(100, rel=0.01)


@settings(max_examples=25)
@given(data=st.data())
def test_limit_is_where_long_integration_ends(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems(most=4))
    objective = data.draw(kit.objectives(reference=data.draw(REFERENCES)))
    start = data.draw(kit.policies(problem.n))
    oracle = kit.Oracle(objective, problem)
    velocity = oracle.logit_velocity
    # Differences of A at the start set the slowest time; a near tie would need an endless integration.
    gaps = np.abs(np.subtract.outer(*[velocity(0.0, np.log(start))] * 2)[np.triu_indices(problem.n, 1)])
    assume(np.min(gaps) > 1e-2 * np.max(gaps))
    collapsed = lambda _, theta: np.max(softmax(theta)) - (1 - 1e-10)  # noqa: E731
    collapsed.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    end = solve_ivp(
        velocity, (0, 4000.0 / np.max(gaps)), np.log(start), method="LSODA", rtol=1e-9, atol=1e-9, events=collapsed
    )
    reached = softmax(end.y[:, -1])
    np.testing.assert_allclose(limit(objective, problem, start), reached, atol=1e-5)


def test_limit_conserves_ratios_inside_a_tied_face() -> None:
    end = limit(preset("task-reward"), DEFAULT_PROBLEM, [0.1, 0.2, 0.3, 0.1, 0.3])
    np.testing.assert_allclose(end, [0, 2 / 3, 0, 1 / 3, 0], rtol=1e-14)


def test_limit_keeps_to_the_face_of_its_start() -> None:
    end = limit(Objective(alpha=2.0), DEFAULT_PROBLEM, [0.0, 0.5, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(end, [0, 625 / 850, 225 / 850, 0, 0], rtol=1e-12)
    assert limit(preset("sharpening"), DEFAULT_PROBLEM, [0, 0, 0, 0.5, 0.5]).tolist() == [0, 0, 0, 1, 0]


def test_self_sharpening_weighs_reward_against_the_start() -> None:
    # |c| = (alpha - 1)/beta_inv = 0.5: the race is decided by log pi + 2 r.
    objective = Objective(alpha=2.0, beta_inv=2.0, reference="policy")
    problem = Problem([0.5, 0.5], [0.0, 0.2])
    border = np.exp(0.4) / (1 + np.exp(0.4))
    assert limit(objective, problem, [border + 1e-3, 1 - border - 1e-3]).tolist() == [1, 0]
    assert limit(objective, problem, [border - 1e-3, 1 - border + 1e-3]).tolist() == [0, 1]
    np.testing.assert_allclose(limit(objective, problem, [border, 1 - border]), [border, 1 - border], rtol=1e-12)


@pytest.mark.parametrize("period", [1, 3, 40])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_a_refreshed_reference_ends_where_the_moving_one_does(period: int, alpha: float) -> None:
    """The training loop with p replaced every few natural-gradient steps, against the limit of the flow."""
    problem = Problem([0.36, 0.34, 0.30], [0.0, 0.06, 0.0])
    objective = Objective(alpha=alpha, beta_inv=1.0, reference=f"refresh:{period}")
    log_pi = np.log(problem.base)
    log_p = log_pi
    for step in range(4000):
        if step % period == 0:
            log_p = log_pi
        advantage = problem.reward + (alpha - 1.0) * log_p + (log_p - log_pi)
        log_pi = log_softmax(log_pi + 0.05 * advantage)
    np.testing.assert_allclose(limit(objective, problem, problem.base), np.exp(log_pi), atol=1e-6)


def test_wrong_policies_are_input_errors() -> None:
    objective = Objective(alpha=2.0)
    for policy in ([0.5, 0.5], [0.5, 0.6, -0.1, 0, 0], [np.nan, 1, 0, 0, 0], [0.0] * 5, [np.inf, 0, 0, 0, 0]):
        with pytest.raises(InputError):
            vector_field(objective, DEFAULT_PROBLEM, policy)
    with pytest.raises(InputError, match="sum is 1"):
        limit(objective, DEFAULT_PROBLEM, [0.5, 0.1, 0.1, 0.1, 0.1])
    with pytest.raises(InputError, match="support"):
        limit(objective, Problem([1.0, 0.0], [0, 1]), [0.5, 0.5])
    for logits in ([0.0] * 4, [-np.inf] * 5, [np.nan] * 5, [np.inf, 0, 0, 0, 0]):
        with pytest.raises(InputError):
            gradient(objective, DEFAULT_PROBLEM, logits)


def test_task_reward_moves_a_policy_off_the_base_support() -> None:
    """An objective that does not weigh log p has a field there too."""
    field = vector_field(preset("task-reward"), Problem([1.0, 0.0], [0, 1]), [0.5, 0.5])
    np.testing.assert_allclose(field, [-0.25, 0.25])
