"""The self-sharpening map against exact rationals, finite differences, simulation and the flow's fixed points."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.instability import selfsharpening as ss
from sharpen.theory.instability.rounds import self_sharpening
from sharpen.theory.instability.stationary import fixed_points

logits = arrays(np.float64, st.integers(1, 6), elements=st.floats(-4, 4))
alphas = st.floats(0.0, 3.0)


def rational_round(policy: list[Fraction], alpha: int) -> list[Fraction]:
    powers = [p**alpha for p in policy]
    return [x / sum(powers) for x in powers]


def direct(policy: np.ndarray, alpha: float) -> np.ndarray:
    return policy**alpha / np.sum(policy**alpha)


@pytest.mark.parametrize("alpha", [2, 3])
def test_the_closed_form_is_the_map_iterated_in_rationals(alpha: int) -> None:
    policy = [Fraction(40, 100), Fraction(35, 100), Fraction(25, 100)]
    start = np.log([float(p) for p in policy])
    for k in range(5):
        np.testing.assert_allclose(np.exp(ss.iterate(start, alpha, k)), [float(p) for p in policy], rtol=1e-12)
        policy = rational_round(policy, alpha)


@given(logits, alphas, st.integers(0, 3), st.integers(0, 3))
def test_rounds_compose(theta: np.ndarray, alpha: float, first: int, second: int) -> None:
    once = ss.iterate(theta, alpha, first + second)
    twice = ss.iterate(ss.iterate(theta, alpha, first), alpha, second)
    np.testing.assert_allclose(once, twice, rtol=1e-9, atol=1e-9)


@given(logits, alphas, st.integers(0, 4), st.floats(-50, 50))
def test_constants_in_the_logits_do_not_matter(theta: np.ndarray, alpha: float, rounds: int, shift: float) -> None:
    shifted = ss.iterate(theta + shift, alpha, rounds)
    np.testing.assert_allclose(shifted, ss.iterate(theta, alpha, rounds), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.exp(shifted).sum(), 1.0, rtol=1e-12)


def test_overflow_ties_and_lost_outcomes() -> None:
    log_pi = np.log([0.4, 0.4, 0.2, 1.0]) + np.array([0, 0, 0, -np.inf])
    assert np.exp(ss.iterate(log_pi, 2.0, 5000)).tolist() == [0.5, 0.5, 0.0, 0.0]
    np.testing.assert_allclose(np.exp(ss.iterate(log_pi, 0.0, 1)), [1 / 3, 1 / 3, 1 / 3, 0.0])
    np.testing.assert_allclose(np.exp(ss.iterate(log_pi, 0.5, 5000)), [1 / 3, 1 / 3, 1 / 3, 0.0])
    assert ss.effective_alpha(2.0, 5000) == math.inf


@given(arrays(np.float64, st.integers(2, 5), elements=st.floats(0.1, 1.0)), st.floats(0.2, 3.0))
def test_jacobian_by_finite_differences(weights: np.ndarray, alpha: float) -> None:
    pi = weights / weights.sum()
    exact = ss.jacobian(pi, alpha)
    h = 1e-6
    for j in range(pi.size):
        step = h * np.eye(pi.size)[j]
        numeric = (direct(pi + step, alpha) - direct(pi - step, alpha)) / (2 * h)
        np.testing.assert_allclose(exact[:, j], numeric, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_families_count_what_the_list_lists(alpha: float, m: int) -> None:
    families = ss.families(alpha, m)
    points = ss.listed_fixed_points(alpha, m)
    assert sum(family.count for family in families) == len(points) == 2**m - 1
    assert Counter(point.kind for point in points) == Counter({family.kind: family.count for family in families})
    assert len({point.support for point in points}) == len(points)
    for point in points:
        inside = list(point.support)
        np.testing.assert_allclose(direct(point.probabilities[inside], alpha), point.probabilities[inside])
        if len(inside) == m > 1:
            tangent = np.sort(np.linalg.eigvals(ss.jacobian(point.probabilities, alpha)).real)[1:]
            np.testing.assert_allclose(tangent, point.eigenvalues, atol=1e-12)


@pytest.mark.parametrize(("alpha", "limit"), [(2.0, 0.0), (1.0, 1.0), (0.5, math.inf)])
def test_transversal_eigenvalue_is_the_growth_of_a_vanishing_outcome(alpha: float, limit: float) -> None:
    growth = []
    for tiny in (1e-6, 1e-12):
        start = np.array([0.5 * (1 - tiny), 0.5 * (1 - tiny), tiny])
        growth.append(direct(start, alpha)[2] / tiny)
    claimed = {family.transversal for family in ss.families(alpha, 3)}
    assert claimed == {limit}
    if limit == 1.0:
        np.testing.assert_allclose(growth, 1.0)
    else:
        assert growth[1] < growth[0] < 1e-4 if limit == 0.0 else growth[1] > growth[0] > 1e2


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_classes_by_simulation(alpha: float) -> None:
    rng = np.random.default_rng(0)
    for point in ss.listed_fixed_points(alpha, 4):
        returned = []
        for _ in range(10):
            start = 0.999 * point.probabilities + 0.001 * rng.dirichlet(np.ones(4))
            end = start
            for _ in range(60):
                end = direct(end, alpha)
            returned.append(np.abs(end - point.probabilities).max() < 1e-3)
        assert all(returned) if point.kind == "stable" else not any(returned)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_flow_of_the_policy_as_reference_has_the_same_points_and_classes(alpha: float) -> None:
    found = fixed_points(Objective(alpha=alpha, reference="policy"), DEFAULT_PROBLEM)
    flow = {point.support: (point.kind, point.probabilities.round(12).tolist()) for point in found.points}
    own = {p.support: (p.kind, p.probabilities.round(12).tolist()) for p in ss.listed_fixed_points(alpha, 5)}
    assert flow == own


def test_families_need_no_enumeration() -> None:
    stable, saddle, unstable = ss.families(2.0, 1000)
    assert (stable.count, saddle.count, unstable.count) == (1000, 2**1000 - 1002, 1)
    with pytest.raises(InputError):
        ss.listed_fixed_points(2.0, 17)
    with pytest.raises(InputError):
        ss.listed_fixed_points(2.0, 10**9)


@given(
    arrays(np.float64, st.integers(2, 6), elements=st.floats(0.05, 1.0)),
    st.floats(1.1, 4.0),
    st.floats(-9, -0.5),
)
def test_rounds_to_collapse_are_the_first_that_suffice(weights: np.ndarray, alpha: float, log10_epsilon: float) -> None:
    ordered = np.sort(weights)[::-1]
    ordered[0] += 0.01
    pi, epsilon = ordered / ordered.sum(), 10.0**log10_epsilon
    found = ss.collapse(np.log(pi), alpha, epsilon)
    assert found is not None
    rounds = 0
    while True:  # 1 / (1 + sum_j (p_j/p_top)^a), one round after the other
        odds = float(np.sum((pi[1:] / pi[0]) ** (alpha**rounds)))
        if odds <= epsilon / (1 - epsilon) * (1 + 1e-9):
            break
        rounds += 1
    assert found.rounds == rounds
    assert found.mass >= (1 - epsilon) * (1 - 1e-9)
    if found.exponent > 0:
        odds = float(np.sum((pi[1:] / pi[0]) ** found.exponent))
        np.testing.assert_allclose(odds, epsilon / (1 - epsilon), rtol=1e-8)


def test_two_outcomes_collapse_at_the_closed_form() -> None:
    found = ss.collapse(np.log([0.6, 0.4]), 2.0, 1e-6)
    assert found is not None
    np.testing.assert_allclose(found.exponent, math.log((1 - 1e-6) / 1e-6) / math.log(1.5), rtol=1e-12)
    assert found.rounds == 6  # 2^5 = 32 < 34.07 < 64


def test_what_never_collapses_and_what_has_already() -> None:
    assert ss.collapse(np.log([0.4, 0.4, 0.2]), 2.0, 0.01) is None
    assert ss.collapse(np.log([0.4, 0.4, 0.2]), 2.0, 0.5) is None  # the supremum, never reached
    assert ss.collapse(np.log([0.6, 0.4]), 1.0, 0.01) is None
    assert ss.collapse(np.log([0.6, 0.4]), 0.5, 0.01) is None
    for alpha in (0.5, 1.0, 2.0):
        done = ss.collapse(np.log([0.6, 0.4]), alpha, 0.4 + 1e-9)
        assert done is not None
        assert done.rounds == 0
    tied = ss.collapse(np.log([0.4, 0.4, 0.2]), 2.0, 0.51)
    assert tied is not None
    np.testing.assert_allclose(tied.exponent, math.log(1 / (0.51 / 0.49 - 1)) / math.log(2), rtol=1e-9)
    alone = ss.collapse([0.0], 2.0, 0.1)
    assert alone is not None
    assert alone.rounds == 0


def test_collapse_is_doubly_exponential() -> None:
    residual = [-ss.log_residual(np.log([0.5, 0.3, 0.2]), 1.5, k) for k in range(7, 15)]
    np.testing.assert_allclose(np.diff(np.log(residual)), math.log(1.5), rtol=1e-2)
    np.testing.assert_allclose(residual[-1], 1.5**14 * math.log(5 / 3), rtol=1e-9)
    assert ss.log_residual([0.0], 2.0, 3) == -math.inf


@pytest.mark.parametrize("beta_inv", [0.0, 0.7])
def test_refreshed_reference_has_a_closed_form(beta_inv: float) -> None:
    alpha, rounds = 1.5, 4
    found = ss.refresh(Objective(alpha=alpha, beta_inv=beta_inv), DEFAULT_PROBLEM, rounds)
    for k in range(rounds + 1):
        weight = DEFAULT_PROBLEM.base ** (alpha**k)
        weight = weight * np.exp(beta_inv * DEFAULT_PROBLEM.reward * (alpha**k - 1) / (alpha - 1))
        np.testing.assert_allclose(np.exp(found[k]), weight / weight.sum(), rtol=1e-11)


@pytest.mark.parametrize(
    ("fields", "power"),
    [
        ({"alpha": 2.0}, 2.0),
        ({"alpha": 2.0, "normalization": "none"}, 1.0),  # the likelihood has no term: every round is the base again
        ({"alpha": 2.0, "normalization": "weighted_mean", "weight": 0.0}, 2.0),
        ({"alpha": 2.0, "normalization": "mean"}, None),
        ({"alpha": 1.0, "normalization": "mean"}, 1.0),
        ({"alpha": 2.0, "beta_inv": 1.0}, None),
    ],
)
def test_effective_exponents_are_of_rounds_that_are_powers(fields: dict[str, Any], power: float | None) -> None:
    problem = Problem([0.5, 0.3, 0.2], [0, 1, 0], [1, 2, 4])
    found = self_sharpening(Objective(**fields), problem, 3)
    ratios = (found.log_policies[:, 0] - found.log_policies[:, 1]) / math.log(0.5 / 0.3)
    if power is None:
        assert found.effective_alpha is None
        third = (found.log_policies[1:, 0] - found.log_policies[1:, 2]) / math.log(0.5 / 0.2)
        assert np.abs(third - ratios[1:]).min() > 0.1  # no power of the base
    else:
        assert found.effective_alpha is not None
        np.testing.assert_allclose(found.effective_alpha, power ** np.arange(4.0))
        np.testing.assert_allclose(ratios, found.effective_alpha, rtol=1e-12)


def test_refresh_with_lengths_and_an_empty_outcome() -> None:
    problem = Problem([0.5, 0.3, 0.2, 0.0], [0, 1, 0, 1], [1, 2, 4, 1])
    found = ss.refresh(Objective(alpha=3.0, beta_inv=2.0, normalization="mean"), problem, 3)
    pi = problem.base[:3]
    for k in range(1, 4):
        weight = pi * pi ** (2 / problem.length[:3]) * np.exp(2 * problem.reward[:3])
        pi = weight / weight.sum()
        np.testing.assert_allclose(np.exp(found[k]), [*pi, 0.0], rtol=1e-11)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ss.iterate([0.0], -1.0, 1),
        lambda: ss.iterate([0.0], math.nan, 1),
        lambda: ss.iterate([0.0], 2.0, -1),
        lambda: ss.iterate([-np.inf, -np.inf], 2.0, 1),
        lambda: ss.iterate([np.nan, 0.0], 2.0, 1),
        lambda: ss.families(2.0, 0),
        lambda: ss.collapse([0.0, -1.0], 2.0, 0.0),
        lambda: ss.collapse([0.0, -1.0], 2.0, 1.0),
        lambda: ss.jacobian([1.0, 0.0], 2.0),
        lambda: ss.refresh(Objective(mode="optimization"), DEFAULT_PROBLEM, 1),
        lambda: ss.refresh(Objective(), DEFAULT_PROBLEM, -1),
        lambda: ss.refresh(Objective(alpha=1e100), DEFAULT_PROBLEM, 9),
    ],
)
def test_bad_input(bad: object) -> None:
    assert callable(bad)
    with pytest.raises(InputError):
        bad()
