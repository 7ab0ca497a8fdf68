"""KL budgets and Pareto frontiers against SciPy's constrained maximisation, linear programmes and mpmath."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from scipy.special import log_softmax

from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.best_of_n import compare_at_equal_kl
from sharpen.theory.optima.frontier import at_kl, frontier, hull, kl_curve

POWER, TILT = Objective(alpha=2.0), Objective(alpha=1.0, beta_inv=1.0)


def exact_numbers(problem: Problem, level: list) -> tuple[float, float, float, float]:
    """E[r], KL to the base, E[log p] and entropy of the policy proportional to exp(level), with 60 digits."""
    with mpmath.workdps(60):
        p = [mpmath.mpf(x) for x in problem.log_base.tolist()]
        top = max(level)
        mass = [mpmath.exp(x - top) for x in level]
        total = sum(mass)
        pi = [m / total for m in mass]
        log_pi = [x - top - mpmath.log(total) for x in level]
        reward = sum(q * mpmath.mpf(r) for q, r in zip(pi, problem.reward.tolist(), strict=True))
        entropy = -sum(q * v for q, v in zip(pi, log_pi, strict=True))
        cross = sum(q * v for q, v in zip(pi, p, strict=True))
        rounding = mpmath.log(sum(mpmath.exp(v) for v in p))  # the base sums to 1 to its last digit only
        return float(reward), float(-entropy - cross + rounding), float(cross), float(entropy)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), held=st.sampled_from([0.0, 0.5, 3.0]), t=st.just(0.0) | st.floats(1e-3, 20.0))
@pytest.mark.parametrize("over", ["alpha", "beta_inv"])
def test_the_kl_curve(over: str, data: st.DataObject, held: float, t: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems())
    alpha, beta_inv = (t, held) if over == "alpha" else (held, t)
    spec = Objective(alpha=alpha, beta_inv=beta_inv, normalization="mean")
    found = kl_curve(spec, problem, "alpha" if over == "alpha" else "beta_inv", [t])
    level = [
        mpmath.mpf(v) + (mpmath.mpf(alpha) - 1) * mpmath.mpf(v) / mpmath.mpf(length) + mpmath.mpf(beta_inv) * r
        for v, length, r in zip(
            problem.log_base.tolist(), problem.length.tolist(), problem.reward.tolist(), strict=True
        )
    ]
    reward, kl, likelihood, entropy = exact_numbers(problem, level)
    assert found.expected_reward[0] == pytest.approx(reward, rel=1e-12, abs=1e-13)
    assert found.kl[0] == pytest.approx(kl, rel=1e-10, abs=1e-15)  # sum p = 1 to rounding only
    assert found.log_likelihood[0] == pytest.approx(likelihood, rel=1e-12)
    assert found.entropy[0] == pytest.approx(entropy, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9])
def test_a_small_kl_keeps_its_digits(tiny: float) -> None:
    found = kl_curve(Objective(), DEFAULT_PROBLEM, "alpha", [1.0 + tiny])
    level = [(1 + mpmath.mpf(found.grid[0] - 1.0)) * mpmath.mpf(v) for v in DEFAULT_PROBLEM.log_base.tolist()]
    assert found.kl[0] == pytest.approx(exact_numbers(DEFAULT_PROBLEM, level)[1], rel=1e-5, abs=0)
    assert found.kl[0] == pytest.approx(
        0.5 * tiny**2 * float(np.cov(DEFAULT_PROBLEM.log_base, aweights=DEFAULT_PROBLEM.base, ddof=0)), rel=2e-3, abs=0
    )


@settings(max_examples=15, deadline=None)
@given(data=st.data(), budget=st.floats(0.01, 0.6), angle=st.floats(0.0, 1.5))
def test_no_policy_within_the_budget_is_better(
    data: st.DataObject, budget: float, angle: float, kit: SimpleNamespace
) -> None:
    problem = data.draw(kit.problems(most=4))
    a, b = math.sin(angle), math.cos(angle) + 1e-3
    found = at_kl(Objective(alpha=1.0 + a, beta_inv=b), problem, budget)
    f = b * problem.reward + a * problem.log_base
    if found is None:  # the budget reaches the outcomes of largest f
        top = f > f.max() - 1e-9
        assert -math.log(problem.base[top].sum()) <= budget + 1e-6
        return
    assert found.kl == pytest.approx(budget, rel=1e-9)
    assert found.alpha - 1.0 == pytest.approx(found.beta_inv * a / b, rel=1e-9, abs=1e-15)  # alpha rounds near 1

    def kl(theta: np.ndarray) -> float:
        log_pi = log_softmax(theta)
        return float(np.exp(log_pi) @ (log_pi - problem.log_base))

    best = minimize(
        lambda theta: -float(np.exp(log_softmax(theta)) @ f),
        problem.log_base + 1e-3 * f,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda theta: budget - kl(theta)},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    value = float(np.exp(found.log_probabilities) @ f)
    assert -best.fun <= value + 1e-6 * (1.0 + abs(value))
    if best.success:
        assert -best.fun == pytest.approx(value, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), budget=st.floats(0.01, 1.0))
def test_powers_and_tilts_are_those_of_best_of_n(data: st.DataObject, budget: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems(lengths=False))
    table = compare_at_equal_kl(problem, budget)
    for name, spec in (("power", POWER), ("tilt", TILT)):
        found, wanted = at_kl(spec, problem, budget), table[name]
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            parameter = found.alpha if name == "power" else found.beta_inv
            assert parameter == pytest.approx(wanted.parameter, rel=1e-6, abs=1e-6)
            assert found.expected_reward == pytest.approx(wanted.expected_reward, rel=1e-6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), budget=st.floats(0.0, 3.0))
def test_the_frontier_within_a_budget(data: st.DataObject, budget: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems())
    spec = Objective(normalization="mean")
    found = frontier(spec, problem, budget, 9)
    s = problem.log_base / problem.length
    assert np.all(found.kl <= budget * (1.0 + 1e-9) + 1e-15)
    assert np.all(np.diff(found.expected_reward) <= 1e-9)
    assert np.all(np.diff(found.expected_score) >= -1e-9 * (1.0 + np.abs(s).max()))
    rng = np.random.default_rng(0)  # no random policy within the budget beats a point of the frontier in its direction
    pi = rng.dirichlet(problem.base * 50.0, 2000)
    pi = np.concatenate([pi, rng.dirichlet(np.ones(problem.n), 2000)])
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(pi > 0, pi * np.log(pi / problem.base), 0.0).sum(axis=1)
    pi = pi[kl <= budget]
    spread = [math.sqrt(problem.base @ (x - problem.base @ x) ** 2) or np.ptp(x) or 1.0 for x in (problem.reward, s)]
    for i, angle in enumerate(np.linspace(0.0, 0.5 * math.pi, 9)):
        f = math.cos(angle) * problem.reward / spread[0] + math.sin(angle) * s / spread[1]
        own = (
            math.cos(angle) * found.expected_reward[i] / spread[0]
            + math.sin(angle) * found.expected_score[i] / spread[1]
        )
        assert np.all(pi @ f <= own + 1e-9 * (1.0 + np.abs(f).max()))


def test_the_ends_spend_the_rest_of_the_budget_on_the_other_goal() -> None:
    # Two correct outcomes: 0.3 and 0.1. The reward is full from -log 0.4 nats on; sharpening inside continues.
    problem = Problem([0.6, 0.3, 0.1], [0.0, 1.0, 1.0])
    whole = -math.log(0.4)
    found = frontier(Objective(), problem, whole + 0.05, 5)
    assert found.expected_reward[0] == pytest.approx(1.0, rel=1e-12)
    assert found.kl[0] == pytest.approx(whole + 0.05, rel=1e-9)
    assert math.isinf(found.beta_inv[0])
    assert 1.0 < found.alpha[0] < math.inf
    plain = 0.75 * math.log(0.3) + 0.25 * math.log(0.1)
    assert found.log_likelihood[0] > plain
    odds = 3.0 ** found.alpha[0]
    share = odds / (1.0 + odds)
    assert found.log_likelihood[0] == pytest.approx(share * math.log(0.3) + (1 - share) * math.log(0.1), rel=1e-9)
    least = frontier(Objective(), problem, 5.0, 5)  # more than any policy needs: the ends of the hull
    assert least.log_likelihood[0] == pytest.approx(math.log(0.3))
    assert least.log_likelihood[-1] == pytest.approx(math.log(0.6))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_hull_by_linear_programmes(data: st.DataObject, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems(most=8))
    found = hull(Objective(normalization="mean"), problem)
    s = problem.log_base / problem.length
    assert np.all(np.diff(found.expected_reward) < 0)
    assert np.all(np.diff(found.exchange) > 0)
    ends = np.concatenate([[0.0], found.exchange, [found.exchange[-1] + 2.0 if found.exchange.size else 1.0]])
    for i, (low, high) in enumerate(itertools.pairwise(ends)):
        weight = 0.5 * (low + high)
        best = linprog(-(problem.reward + weight * s), A_eq=np.ones((1, problem.n)), b_eq=[1.0], bounds=(0, 1))
        own = found.expected_reward[i] + weight * found.expected_score[i]
        assert own == pytest.approx(-best.fun, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), budget=st.floats(0.0, 4.0))
def test_a_budget_never_leaves_the_hull(data: st.DataObject, budget: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems(lengths=False))
    outer, inner = hull(Objective(), problem), frontier(Objective(), problem, budget, 5)
    for reward, score in zip(inner.expected_reward, inner.expected_score, strict=True):
        if score <= outer.expected_score[0]:
            assert reward <= outer.expected_reward[0] + 1e-9
        else:
            edge = np.interp(score, outer.expected_score, outer.expected_reward)
            assert reward <= edge + 1e-9


def test_outcomes_outside_the_base_do_not_count() -> None:
    with_zero = Problem([0.5, 0.3, 0.2, 0.0], [0.0, 1.0, 0.0, 9.0])
    without = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.0])
    assert hull(Objective(), with_zero).outcomes.tolist() == hull(Objective(), without).outcomes.tolist() == [1, 0]
    for budget in (0.3, 3.0):
        a, b = frontier(Objective(), with_zero, budget, 5), frontier(Objective(), without, budget, 5)
        np.testing.assert_allclose(a.expected_reward, b.expected_reward, rtol=1e-9)
        np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-9)


def test_what_no_parameter_reaches() -> None:
    uniform = Problem([0.25] * 4, [0.0, 1.0, 0.0, 0.0])
    assert at_kl(POWER, uniform, 0.1) is None  # nothing to sharpen
    assert at_kl(TILT, uniform, math.log(4.0)) is None  # only reached in the limit
    base = at_kl(POWER, uniform, 0.0)
    assert base is not None
    assert base.alpha == 1.0
    flat = at_kl(Objective(alpha=0.5), DEFAULT_PROBLEM, 0.05)
    assert flat is not None
    assert flat.alpha < 1.0
    no_entropy = at_kl(preset("task-reward"), DEFAULT_PROBLEM, 0.2)
    tilted = at_kl(TILT, DEFAULT_PROBLEM, 0.2)
    assert no_entropy is not None
    assert tilted is not None
    assert no_entropy.beta_inv == pytest.approx(tilted.beta_inv)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: at_kl(POWER, DEFAULT_PROBLEM, -0.1),
        lambda: at_kl(POWER, DEFAULT_PROBLEM, math.nan),
        lambda: at_kl(Objective(), DEFAULT_PROBLEM, 0.1),
        lambda: at_kl(Objective(alpha=2.0, reference="policy"), DEFAULT_PROBLEM, 0.1),
        lambda: frontier(Objective(), DEFAULT_PROBLEM, math.inf),
        lambda: frontier(Objective(), DEFAULT_PROBLEM, 0.1, 1),
        lambda: frontier(Objective(normalization="none"), DEFAULT_PROBLEM, 0.1),
        lambda: hull(Objective(normalization="none"), DEFAULT_PROBLEM),
        lambda: kl_curve(preset("sharpening"), DEFAULT_PROBLEM, "alpha", [1.0]),
        lambda: kl_curve(Objective(), DEFAULT_PROBLEM, "alpha", [-1.0]),
        lambda: kl_curve(Objective(), Problem([0.5, 0.5], [0.0, 10.0]), "beta_inv", [1e308]),
    ],
)
def test_bad_input(bad: object) -> None:
    assert callable(bad)
    with pytest.raises(InputError):
        bad()
