"""Price, calibration and the slope of pass@k: against finite differences, searches over alpha, and small budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import rel_entr

from sharpen.theory.audit.price import calibration, coin_kl, pass_at_k_slope, price
from sharpen.theory.core.problem import Problem


def random_problem(seed: int, n: int = 8) -> Problem:
    """Return a problem with rewards 0 and 1, both there."""
    rng = np.random.default_rng(seed)
    reward = rng.permutation([0.0, 1.0, *rng.integers(0, 2, n - 2)])
    return Problem(0.9 * rng.dirichlet(np.ones(n)) + 0.1 / n, reward)


def at(problem: Problem, exponent: np.ndarray) -> np.ndarray:
    """Return p exp(exponent) / Z."""
    logs = problem.log_base + exponent
    return np.exp(logs - np.logaddexp.reduce(logs))


@pytest.mark.parametrize("seed", range(5))
def test_the_price_is_the_ratio_of_gains_at_one_small_budget(seed: int) -> None:
    problem = random_problem(seed)
    budget = 1e-7

    def gain(direction: np.ndarray) -> float:
        def over(t: float) -> float:
            return float(np.sum(rel_entr(at(problem, t * direction), problem.base))) - budget

        t: Any = brentq(over, 0.0, 1.0, xtol=1e-14)
        return problem.expected_reward(at(problem, t * direction)) - problem.expected_reward(problem.base)

    found = price(problem)
    assert found is not None
    assert gain(problem.log_base) / gain(problem.reward) == pytest.approx(found, abs=2e-3)


def test_kl_of_coins() -> None:
    for a, b in ((0.5, 0.25), (1.0, 0.25), (0.0, 0.25), (0.9, 0.999)):
        assert coin_kl(a, b) == pytest.approx(float(np.sum(rel_entr([a, 1 - a], [b, 1 - b]))), rel=1e-12)
    assert coin_kl(0.5, 0.0) == coin_kl(0.5, 1.0) == np.inf
    assert coin_kl(0.0, 0.0) == coin_kl(1.0, 1.0) == 0.0


def test_no_price_where_nothing_varies() -> None:
    assert price(Problem([0.5, 0.5], [1, 0])) is None
    assert price(Problem([0.7, 0.3], [1, 1])) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), alpha=st.floats(0, 12))
def test_no_sharpening_gains_more_than_its_kl_buys(seed: int, n: int, alpha: float) -> None:
    problem = random_problem(seed, n)
    sharpened = at(problem, (alpha - 1) * problem.log_base)
    accuracies = problem.expected_reward(sharpened), problem.expected_reward(problem.base)
    assert coin_kl(*accuracies) <= float(np.sum(rel_entr(sharpened, problem.base))) + 1e-9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), level=st.floats(0.02, 0.98))
def test_the_response_crosses_a_level_no_more_often_than_calibration(seed: int, n: int, level: float) -> None:
    problem = random_problem(seed, n)
    response = np.array(
        [problem.expected_reward(at(problem, (a - 1) * problem.log_base)) for a in np.linspace(0, 30, 300)]
    )
    signs = np.sign(response - level)
    signs = signs[np.abs(response - level) > 1e-9]
    assert np.sum(signs[1:] != signs[:-1]) <= calibration(problem).crossings(level)


def test_calibration_joins_equal_likelihoods_and_counts_turns() -> None:
    found = calibration(Problem([0.4, 0.2, 0.2, 0.1, 0.1], [0, 1, 0, 0, 0]))
    assert found.mass == pytest.approx([0.2, 0.4, 0.4])
    assert found.expected_reward == pytest.approx([0.0, 0.5, 0.0])
    assert (found.turns(), found.crossings(0.25), found.crossings(0.75)) == (1, 2, 0)
    assert list(found.frame().columns) == ["logprob", "mass", "expected_reward"]
    rounded = calibration(Problem([0.6, 0.2 + 1e-14, 0.2 - 1e-14], [0, 1, 0]))  # log p from another formula
    assert rounded.expected_reward == pytest.approx([0.5, 0.0])


def test_calibration_holds_where_probabilities_underflow() -> None:
    problem = Problem.from_log([0.0, -1000.0, -1000.0], [0, 1, 0])
    assert calibration(problem).expected_reward.tolist() == [0.5, 0.0]


@pytest.mark.parametrize("k", [1, 3, 16])
@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_the_slope_of_pass_at_k_is_its_difference_quotient(k: int, alpha: float) -> None:
    problems = [random_problem(seed) for seed in range(4)]
    weights = np.array([0.1, 0.2, 0.3, 0.4])

    def covered(a: float) -> float:
        right = [p.expected_reward(at(p, (a - 1) * p.log_base)) for p in problems]
        return float(weights @ (1 - (1 - np.array(right)) ** k))

    quotient = (covered(alpha + 1e-5) - covered(alpha - 1e-5)) / 2e-5
    assert pass_at_k_slope(problems, k, alpha, weights) == pytest.approx(quotient, abs=1e-6)
    assert pass_at_k_slope(problems, k, alpha) == pytest.approx(pass_at_k_slope(problems, k, alpha, np.full(4, 0.25)))
