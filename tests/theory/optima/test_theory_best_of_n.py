"""Best-of-N against enumeration of all draws, exact fractions, simulation and optimality at equal KL."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, rel_entr

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.best_of_n import (
    best_of_n,
    best_of_n_kl,
    compare_at_equal_kl,
    coverage_coefficient,
    kl_bound,
    log_best_of_n,
    regularised_alpha,
    samples_to_cover,
)
from sharpen.theory.optima.optimum import optimum

WEIGHTS = st.lists(st.integers(1, 16), min_size=1, max_size=4)
MANY = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8)


def by_enumeration(p: list[Fraction], scores: list[float], n_samples: int) -> list[Fraction]:
    """The winner's law over all n^N ordered draws, each drawn maximum kept with the same chance."""
    law = [Fraction(0)] * len(p)
    for draw in itertools.product(range(len(p)), repeat=n_samples):
        best = max(scores[i] for i in draw)
        kept = [i for i in draw if scores[i] == best]
        for i in kept:
            law[i] += math.prod((p[j] for j in draw), start=Fraction(1)) / len(kept)
    return law


@settings(max_examples=40)
@given(weights=WEIGHTS, n_samples=st.integers(1, 5), data=st.data())
def test_the_law_is_the_sum_over_all_draws(weights: list[int], n_samples: int, data: st.DataObject) -> None:
    n = len(weights)
    scores = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=n, max_size=n))
    p = [Fraction(w, sum(weights)) for w in weights]
    problem = Problem([float(x) for x in p], np.zeros(n))
    expected = [float(x) for x in by_enumeration(p, scores, n_samples)]
    np.testing.assert_allclose(best_of_n(problem, n_samples, scores), expected, atol=1e-15, rtol=1e-13)
    by_likelihood = [float(x) for x in by_enumeration(p, [float(w) for w in weights], n_samples)]
    np.testing.assert_allclose(best_of_n(problem, n_samples), by_likelihood, atol=1e-15, rtol=1e-13)


@settings(max_examples=60)
@given(weights=MANY, n_samples=st.one_of(st.floats(1.0, 50.0), st.sampled_from([1.0, 1e3, 1e6])))
def test_large_and_real_n_in_many_digits(weights: list[float], n_samples: float) -> None:
    base = np.array(weights) / sum(weights)
    problem = Problem(base, np.zeros(base.size))
    scores = np.arange(base.size) // 2
    found, log_found = best_of_n(problem, n_samples, scores), log_best_of_n(problem, n_samples, scores)
    with mpmath.workdps(60):
        p = [mpmath.mpf(float(x)) for x in problem.base]
        total = sum(p)
        for i in range(base.size):
            upto = sum(p[j] for j in range(base.size) if scores[j] <= scores[i]) / total
            below = sum(p[j] for j in range(base.size) if scores[j] < scores[i]) / total
            exact = p[i] / total / (upto - below) * (upto**n_samples - below**n_samples)
            if exact > mpmath.mpf("1e-290"):
                assert found[i] == pytest.approx(float(exact), rel=1e-9, abs=1e-300)
            assert log_found[i] == pytest.approx(float(mpmath.log(exact)), rel=1e-9, abs=1e-9)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=60)
@given(weights=MANY, n_samples=st.floats(1.0, 1e6))
def test_kl_and_its_bound(weights: list[float], n_samples: float) -> None:
    base = np.array(weights) / sum(weights)
    problem = Problem(base, np.zeros(base.size))
    kl = best_of_n_kl(problem, n_samples)
    assert kl == pytest.approx(float(rel_entr(best_of_n(problem, n_samples), problem.base).sum()), abs=1e-9)
    assert 0.0 <= kl <= kl_bound(n_samples) + 1e-12
    assert kl_bound(n_samples) == pytest.approx(math.log(n_samples) - (n_samples - 1) / n_samples)


def test_the_bound_is_the_limit_of_many_outcomes() -> None:
    problem = Problem(np.full(20_000, 1 / 20_000), np.zeros(20_000))
    for n_samples in (1.5, 4.0, 50.0):
        assert best_of_n_kl(problem, n_samples, np.arange(20_000)) == pytest.approx(kl_bound(n_samples), rel=1e-3)


def test_simulated_draws_agree() -> None:
    rng = np.random.default_rng(0)
    draws, n_samples = 100_000, 6
    drawn = rng.choice(5, size=(draws, n_samples), p=DEFAULT_PROBLEM.base)
    scores = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    noise = rng.random(drawn.shape)  # breaks ties between drawn maxima uniformly
    winner = drawn[np.arange(draws), np.argmax(scores[drawn] + 0.5 * noise, axis=1)]
    frequency = np.bincount(winner, minlength=5) / draws
    expected = best_of_n(DEFAULT_PROBLEM, n_samples, scores)
    assert np.all(np.abs(frequency - expected) < 4.5 * np.sqrt(expected * (1 - expected) / draws) + 1e-12)


def test_n_equal_one_is_the_base_and_large_n_the_mode() -> None:
    np.testing.assert_allclose(best_of_n(DEFAULT_PROBLEM, 1), DEFAULT_PROBLEM.base, rtol=1e-15)
    assert best_of_n(DEFAULT_PROBLEM, 1e6).tolist() == pytest.approx([1, 0, 0, 0, 0])
    partial = Problem([0.5, 0.0, 0.5], [0, 1, 0])
    assert best_of_n(partial, 3, [0.0, math.inf, 1.0]).tolist() == pytest.approx([0.125, 0.0, 0.875])


def test_probabilities_beyond_floating_point() -> None:
    problem = Problem.from_log([0.0, -1e6, -1e5], [0, 1, 1])
    np.testing.assert_allclose(log_best_of_n(problem, 10), [0.0, -1e7, -1e6], rtol=1e-12)
    np.testing.assert_allclose(log_best_of_n(problem, 10, [0, 1, 2])[1:], [math.log(10) - 1e6, math.log(10) - 1e5])


@pytest.mark.parametrize("n_samples", [0, 0.5, -1, math.nan, math.inf, True])
def test_bad_sample_counts(n_samples: float) -> None:
    with pytest.raises(InputError, match="best-of"):
        best_of_n(DEFAULT_PROBLEM, n_samples)


@pytest.mark.parametrize("score", [[1.0, 2.0], [math.nan] * 5, [math.inf, 0, 0, 0, 0]])
def test_bad_scores(score: list[float]) -> None:
    with pytest.raises(InputError, match="score"):
        best_of_n(DEFAULT_PROBLEM, 2, score)


@pytest.mark.parametrize("kl", [1e-6, 0.05, 0.3, 0.8])
def test_equal_kl_members_are_what_they_say(kl: float) -> None:
    rows = compare_at_equal_kl(DEFAULT_PROBLEM, kl)
    assert list(rows) == ["power", "best-of-n", "tilt"]
    for name, row in rows.items():
        assert row is not None
        pi, p = row.probabilities, DEFAULT_PROBLEM.base
        assert float(rel_entr(pi, p).sum()) == pytest.approx(kl, rel=1e-9, abs=1e-15)
        assert row.kl == pytest.approx(kl, rel=1e-9, abs=0)
        assert row.expected_reward == pytest.approx(float(pi @ DEFAULT_PROBLEM.reward))
        assert row.entropy == pytest.approx(-float(pi @ np.log(pi)))
        assert row.log_likelihood == pytest.approx(float(pi @ np.log(p)))
        if name == "best-of-n":
            shape = best_of_n(DEFAULT_PROBLEM, row.parameter)
        else:
            shape = p**row.parameter if name == "power" else p * np.exp(row.parameter * DEFAULT_PROBLEM.reward)
        np.testing.assert_allclose(pi, shape / shape.sum(), rtol=1e-9)


@settings(max_examples=60)
@given(weights=st.lists(st.floats(0.05, 1.0), min_size=5, max_size=5))
def test_power_and_tilt_are_the_best_at_their_kl(weights: list[float]) -> None:
    pi = np.array(weights) / sum(weights)
    kl = float(rel_entr(pi, DEFAULT_PROBLEM.base).sum())
    rows = compare_at_equal_kl(DEFAULT_PROBLEM, kl)
    tilt, power = rows["tilt"], rows["power"]
    if tilt is not None:
        assert tilt.expected_reward >= pi @ DEFAULT_PROBLEM.reward - 1e-9
    if power is not None:
        assert power.log_likelihood >= pi @ DEFAULT_PROBLEM.log_base - 1e-9


def test_best_of_n_by_a_binary_reward_is_the_tilt_of_the_same_kl() -> None:
    for n_samples in (2, 3.5, 10):
        law = best_of_n(DEFAULT_PROBLEM, n_samples, DEFAULT_PROBLEM.reward)
        tilt = compare_at_equal_kl(DEFAULT_PROBLEM, best_of_n_kl(DEFAULT_PROBLEM, n_samples, DEFAULT_PROBLEM.reward))[
            "tilt"
        ]
        assert tilt is not None
        np.testing.assert_allclose(tilt.probabilities, law, atol=1e-9)


def test_out_of_reach() -> None:
    most = -math.log(DEFAULT_PROBLEM.base[0])
    assert compare_at_equal_kl(DEFAULT_PROBLEM, most * 0.999)["power"] is not None
    assert compare_at_equal_kl(DEFAULT_PROBLEM, most * 1.001)["power"] is None
    assert compare_at_equal_kl(DEFAULT_PROBLEM, most * 1.001)["tilt"] is None or most * 1.001 < -math.log(0.37)
    assert all(row is None for row in compare_at_equal_kl(DEFAULT_PROBLEM, 50.0).values())
    start = compare_at_equal_kl(DEFAULT_PROBLEM, 0.0)
    assert [row.parameter for row in start.values() if row] == [1.0, 1.0, 0.0]
    for kl in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="kl"):
            compare_at_equal_kl(DEFAULT_PROBLEM, kl)


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_regularised_sharpening_by_numerical_maximum(beta: float) -> None:
    log_p = DEFAULT_PROBLEM.log_base

    def loss(theta: np.ndarray) -> float:
        log_pi = log_softmax(theta)
        return -float(np.exp(log_pi) @ (log_p - beta * (log_pi - log_p)))

    best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    found = optimum(Objective(alpha=regularised_alpha(beta)), DEFAULT_PROBLEM).probabilities
    np.testing.assert_allclose(found, np.exp(log_softmax(best.x)), atol=2e-6)


@pytest.mark.parametrize("delta", [0.5, 0.1, 1e-3, 1e-9])
@pytest.mark.parametrize("p", [0.999, 0.4, 0.02])
def test_samples_to_cover_is_the_least(p: float, delta: float) -> None:
    rest = np.full(60, (1 - p) / 60)
    found = samples_to_cover(Problem([p, *rest], np.zeros(61)), delta)
    assert (1 - p) ** found <= delta * (1 + 1e-9)
    assert found == 1 or (1 - p) ** (found - 1) > delta * (1 - 1e-9)
    assert found <= math.ceil(math.log(1 / delta) / p)  # C log(1/delta)


def test_coverage_coefficient_counts_tied_modes_together() -> None:
    tied, single = Problem([0.4, 0.4, 0.2], [0, 0, 0]), Problem([0.5, 0.3, 0.2], [0, 0, 0])
    assert coverage_coefficient([tied]) == pytest.approx(1.25)
    assert coverage_coefficient([tied, single], [3.0, 1.0]) == pytest.approx((3 * 1.25 + 2.0) / 4)
    assert samples_to_cover(Problem([1.0], [0]), 0.1) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: coverage_coefficient([]),
        lambda: coverage_coefficient([DEFAULT_PROBLEM], [0.0]),
        lambda: coverage_coefficient([DEFAULT_PROBLEM], [1.0, 2.0]),
        lambda: samples_to_cover(DEFAULT_PROBLEM, 0.0),
        lambda: samples_to_cover(DEFAULT_PROBLEM, math.nan),
        lambda: regularised_alpha(0.0),
        lambda: kl_bound(0.9),
    ],
)
def test_refused_arguments(call) -> None:
    with pytest.raises(InputError):
        call()
