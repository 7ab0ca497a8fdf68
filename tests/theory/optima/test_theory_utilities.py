"""Optima with a utility of the success rate or an exponent of right answers, against minimisers and integrators."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, minimize, root_scalar
from scipy.special import expit, rel_entr

from sharpen.objective import InputError, Objective
from sharpen.theory.core.flow import vector_field
from sharpen.theory.core.problem import Problem
from sharpen.theory.instability.stationary import fixed_points
from sharpen.theory.optima import utilities
from sharpen.theory.optima.frontier import at_kl
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.optima.response import curve
from sharpen.theory.optima.sensitivity import jacobian

WRITTEN = {
    "log": np.log,
    "pass@1": lambda p: p,
    "pass@5": lambda p: 1 - (1 - p) ** 5,
    "arcsin": lambda p: 2 * np.arcsin(np.sqrt(p)),
}
FOUR = Problem([0.5, 0.3, 0.15, 0.05], [0, 1, 0, 1])


def best_on_the_simplex(problem: Problem, utility: str, alpha: tuple[float, float], beta_inv: float, start: np.ndarray):
    """Maximise f(P) + E[alpha(r) log p] / beta_inv + H / beta_inv over logits by BFGS, without the package."""
    exponent = np.where(problem.reward == 1, alpha[1], alpha[0])

    def loss(theta: np.ndarray) -> float:
        pi = np.exp(theta - np.logaddexp.reduce(theta))
        gain = WRITTEN[utility](pi @ problem.reward)
        return float(-gain - (pi @ (exponent * np.log(problem.base)) - np.sum(pi * np.log(pi))) / beta_inv)

    found = minimize(loss, start, method="BFGS", options={"gtol": 1e-9})
    return np.exp(found.x - np.logaddexp.reduce(found.x)), -float(found.fun)


@pytest.mark.parametrize("beta_inv", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("alpha", [(1.0, None), (2.0, None), (1.0, 0.0), (1.5, 0.5)])
@pytest.mark.parametrize("utility", ["log", "pass@1", "pass@5"])
def test_concave_utilities_have_the_optimum_of_a_minimiser(
    utility: str, alpha: tuple[float, float | None], beta_inv: float
) -> None:
    objective = Objective(alpha=alpha[0], alpha_right=alpha[1], beta_inv=beta_inv, utility=utility)
    found = optimum(objective, FOUR)
    both = (alpha[0], alpha[0] if alpha[1] is None else alpha[1])
    pi, value = best_on_the_simplex(FOUR, utility, both, beta_inv, np.log(FOUR.base))
    np.testing.assert_allclose(found.probabilities, pi, atol=2e-6)
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.unique


@pytest.mark.parametrize(("beta_inv", "interior"), [(0.5, 0.1673), (1.0, 0.3127), (2.0, None)])
def test_grpo_on_a_grid_of_success_rates(beta_inv: float, interior: float | None) -> None:
    base = 0.05
    p = np.linspace(1e-6, 1 - 1e-6, 2_000_001)
    value = 2 * np.arcsin(np.sqrt(p)) - (rel_entr(p, base) + rel_entr(1 - p, 1 - base)) / beta_inv
    turns = p[1:-1][(value[1:-1] > value[:-2]) & (value[1:-1] > value[2:])]
    found = utilities.solutions(Objective(beta_inv=beta_inv, utility="arcsin"), Problem([1 - base, base], [0, 1]))
    inside = [each.success for each in found if each.kind == utilities.MAXIMUM]
    if interior is None:
        assert inside == []
        assert turns.size == 0
    else:
        assert inside == pytest.approx(list(turns), abs=2e-6)
        assert inside == pytest.approx([interior], abs=1e-4)
    assert found[-1].kind == utilities.CERTAINTY


@settings(max_examples=60, deadline=None)
@given(st.floats(-6, 6), st.floats(0.05, 8), st.sampled_from(["log", "pass@3", "identity", "arcsin"]))
def test_every_solution_solves_and_none_is_missed(start: float, w: float, utility: str) -> None:
    slope = {
        "identity": lambda p: 1.0,
        "log": lambda p: 1 / p,
        "pass@3": lambda p: 3 * (1 - p) ** 2,
        "arcsin": lambda p: (p * (1 - p)) ** -0.5,
    }[utility]
    found = utilities.roots(utility, start, w)
    for x, kind in found:
        assert x - start == pytest.approx(w * slope(expit(x)), rel=1e-6, abs=1e-9)
        before, after = (w * slope(expit(y)) - (y - start) for y in (x - 1e-3, x + 1e-3))
        alone = len(found) == 1 or found[1][0] - found[0][0] > 0.01
        assert not alone or kind == utilities.FOLD or (before > after) == (kind == utilities.MAXIMUM)
    grid = np.linspace(-30.0123, 30.0457, 20_001)  # no point is a solution
    signs = np.sign([w * slope(expit(x)) - (x - start) for x in grid])
    seen = np.count_nonzero(np.diff(signs))
    assert len([x for x, _ in found if abs(x) < 30]) >= seen


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_the_fold_is_where_the_two_solutions_meet(beta: float) -> None:
    border = 2 * math.asinh(beta) - 2 * math.sqrt(1 + 1 / beta**2)
    assert [kind for _, kind in utilities.roots("arcsin", border, 1 / beta)] == [utilities.FOLD]
    assert [kind for _, kind in utilities.roots("arcsin", border + 1e-6, 1 / beta)] == []
    below = utilities.roots("arcsin", border - 1e-6, 1 / beta)
    assert [kind for _, kind in below] == [utilities.MAXIMUM, utilities.MINIMUM]
    assert below[1][0] - below[0][0] < 0.1


@pytest.mark.parametrize("alpha", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("beta_inv", [0.3, 0.55, 0.9, 2.0])
def test_grpo_ends_where_an_integrated_flow_does(alpha: float, beta_inv: float) -> None:
    base, reward = np.array([0.55, 0.3, 0.1, 0.05]), np.array([0.0, 0.0, 1.0, 1.0])
    objective = Objective(alpha=alpha, beta_inv=beta_inv, utility="arcsin")

    def field(_: float, theta: np.ndarray) -> np.ndarray:
        pi = np.exp(theta - np.logaddexp.reduce(theta))
        p = min(float(pi @ reward), 1 - 1e-9)
        return reward / math.sqrt(p * (1 - p)) + (alpha * np.log(base) - np.log(pi)) / beta_inv

    def certain(_: float, theta: np.ndarray) -> float:
        return 1e-7 - float(np.exp(np.logaddexp.reduce(theta[:2]) - np.logaddexp.reduce(theta)))

    certain.terminal = True  # type: ignore[attr-defined]
    end = solve_ivp(field, (0, 200), np.log(base), "LSODA", events=certain, rtol=1e-9, atol=1e-10)
    found = optimum(objective, Problem(base, reward))
    pi = np.exp(end.y[:, -1] - np.logaddexp.reduce(end.y[:, -1]))
    if end.status == 1:
        assert found.expected_reward == pytest.approx(1.0, abs=1e-12)
        assert found.support == (2, 3)
    else:
        np.testing.assert_allclose(found.probabilities, pi, atol=1e-6)


def test_a_base_beyond_the_minimum_ends_in_certainty_though_a_maximum_lies_below() -> None:
    """Of one right and one wrong answer the flow of the log-odds is dx/ds = f'(P) - (x - x_0) / beta_inv, whatever P_0.

    With alpha = 0 x_0 is 0, so bases of any success rate have the same maximum and the same minimum.
    """
    objective = Objective(alpha=0.0, beta_inv=0.6, utility="arcsin")

    def pull(p: float) -> float:
        return (p * (1 - p)) ** -0.5 - math.log(p / (1 - p)) / 0.6

    rest, turn = (root_scalar(pull, bracket=ends, xtol=1e-14).root for ends in ((0.5, 0.93), (0.93, 0.9999)))
    for base, end in ((0.1, rest), (turn - 0.01, rest), (turn + 0.01, 1.0), (0.999, 1.0)):
        problem = Problem([1 - base, base], [0, 1])
        assert [each.kind for each in utilities.solutions(objective, problem)] == ["maximum", "minimum", "certainty"]
        assert optimum(objective, problem).expected_reward == pytest.approx(end, abs=1e-9), base


@pytest.mark.parametrize("fields", [{"utility": "log"}, {"utility": "pass@4"}, {"utility": "arcsin"},
                                    {"utility": "log", "alpha_right": 0.3}, {"alpha_right": 0.3}])  # fmt: skip
@pytest.mark.parametrize("over", ["alpha", "beta_inv"])
def test_the_response_is_that_of_the_optima(fields: dict[str, object], over: str) -> None:
    objective = Objective.model_validate({"alpha": 1.0, "beta_inv": 0.4, **fields})
    grid, h = np.array([0.2, 0.5, 0.7]) if over == "beta_inv" else np.array([0.5, 1.0, 1.5]), 1e-5
    found = curve(objective, FOUR, over, grid)  # pyright: ignore[reportArgumentType]
    for t, reward, derivative in zip(grid, found.expected_reward, found.derivative, strict=True):
        low, here, high = (
            optimum(objective.model_copy(update={over: t + step}), FOUR).expected_reward for step in (-h, 0, h)
        )
        assert reward == pytest.approx(here, abs=1e-12)
        assert derivative == pytest.approx((high - low) / (2 * h), abs=1e-5)


def test_an_exponent_for_right_answers_spreads_over_them() -> None:
    even = optimum(Objective(alpha=1.0, alpha_right=0.0, beta_inv=1.0), FOUR).probabilities
    assert even[1] == pytest.approx(even[3], rel=1e-12)
    assert even[0] / even[2] == pytest.approx(0.5 / 0.15, rel=1e-12)
    smoothed = optimum(Objective(alpha=2.0, alpha_right=0.5), FOUR).probabilities
    weights = np.array([0.5**2, 0.3**0.5, 0.15**2, 0.05**0.5])
    np.testing.assert_allclose(smoothed, weights / weights.sum(), rtol=1e-12)


def test_sensitivity_weighs_right_answers_by_their_own_exponent() -> None:
    objective, h = Objective(alpha=2.0, alpha_right=0.5, beta_inv=1.0), 1e-6
    found = jacobian(objective, FOUR)
    for j in range(4):
        sides = []
        for sign in (1, -1):
            log_p = np.log(FOUR.base) + sign * h * (np.arange(4) == j)
            weights = np.exp(np.where(FOUR.reward == 1, 0.5, 2.0) * log_p + FOUR.reward)
            sides.append(weights / weights.sum())
        np.testing.assert_allclose(found[:, j], (sides[0] - sides[1]) / (2 * h), atol=1e-8)


@pytest.mark.parametrize("utility", ["log", "pass@3", "arcsin"])
@pytest.mark.parametrize("beta_inv", [0.5, 3.0])
def test_fixed_points_rest_and_have_the_eigenvalues_of_the_field(utility: str, beta_inv: float) -> None:
    problem, objective = Problem([0.6, 0.37, 0.03], [0, 0, 1]), Objective(beta_inv=beta_inv, utility=utility)
    found = fixed_points(objective, problem)
    assert found.complete
    inside = [point for point in found.points if len(point.support) == 3]
    assert len(inside) == (1 if utility != "arcsin" else 2 if beta_inv == 0.5 else 0)
    for point in inside:
        pi = point.probabilities
        np.testing.assert_allclose(vector_field(objective, problem, pi), 0, atol=1e-9)
        basis = np.array([[1.0, -1, 0], [0, 1, -1]]).T
        h = 1e-7 * min(1, float(pi.min()))
        sides = [[vector_field(objective, problem, pi + s * h * b) for b in basis.T] for s in (1, -1)]
        rates = (np.array(sides[0]) - np.array(sides[1])).T / (2 * h)
        matrix = np.linalg.lstsq(basis, rates, rcond=None)[0]
        np.testing.assert_allclose(np.sort(np.linalg.eigvals(matrix).real)[::-1], point.eigenvalues, rtol=1e-4)
    certain = next(point for point in found.points if point.support == (2,))
    assert certain.kind == ("stable" if utility == "arcsin" else "unstable")


def test_near_certainty_the_flow_returns_unless_the_utility_is_arcsin() -> None:
    problem = Problem([0.9, 0.1], [0, 1])
    for utility, returns in (("identity", True), ("log", True), ("pass@8", True), ("arcsin", False)):
        velocity = vector_field(Objective(beta_inv=0.1, utility=utility), problem, [1e-8, 1 - 1e-8])
        assert bool(velocity[0] > 0) is returns


@pytest.mark.parametrize(
    ("fields", "reward", "said"),
    [
        ({"utility": "log", "beta_inv": 1.0}, [0, 0.5, 0, 1], "reward"),
        ({"utility": "log", "beta_inv": 1.0}, [1, 1, 1, 1], "reward"),
        ({"utility": "log", "beta_inv": 1.0, "reference": "policy"}, [0, 1, 0, 1], "utility"),
        ({"alpha_right": 0.5, "reference": "policy"}, [0, 1, 0, 1], "reference"),
        ({"utility": "log", "beta_inv": 1.0, "mode": "optimization"}, [0, 1, 0, 1], "mode"),
    ],
)
def test_what_has_no_such_optimum_is_refused(fields: dict[str, object], reward: list[float], said: str) -> None:
    with pytest.raises(InputError) as caught:
        optimum(Objective.model_validate(fields), Problem(FOUR.base, reward))
    assert caught.value.field == said


def test_without_entropy_and_likelihood_a_utility_ends_as_the_task_reward_does() -> None:
    plain, bent = (Objective(alpha=0, beta_inv=1, mode="optimization", utility=u) for u in ("identity", "log"))
    np.testing.assert_array_equal(optimum(plain, FOUR).probabilities, optimum(bent, FOUR).probabilities)
    with pytest.raises(InputError, match="ray of optima"):
        at_kl(Objective(beta_inv=1, utility="log"), FOUR, 0.1)


@given(st.floats(-30, 30), st.floats(0.01, 100))
def test_the_log_utility_solves_an_equation_of_its_own(start: float, w: float) -> None:
    ((x, _),) = utilities.roots("log", start, w)
    reference = brentq(lambda y: y - start - w * (1 + math.exp(-y)), -40, 300, xtol=1e-12)
    assert x == pytest.approx(reference, abs=1e-9)
