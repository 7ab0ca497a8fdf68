"""Response curves and turning points against mpmath, roots of polynomials and dense grids."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.response import Turn, curve, stops_helping, turning_points

mpmath.mp.dps = 50


def exact_reward(problem: Problem, alpha, beta_inv: Any = 0, exponent: float = 0.0):
    """E[r] of p exp((alpha - 1) log p / |x|^w + beta_inv r) with 50 digits, from the float64 log p and r."""
    total, mean = mpmath.mpf(0), mpmath.mpf(0)
    columns = [array.tolist() for array in (problem.log_base, problem.reward, problem.length)]
    for p, r, length in zip(*columns, strict=True):
        log_p = mpmath.mpf(p)
        mass = mpmath.exp(log_p + (alpha - 1) * log_p / mpmath.mpf(length) ** exponent + beta_inv * mpmath.mpf(r))
        total, mean = total + mass, mean + mass * mpmath.mpf(r)
    return mean / total


@settings(max_examples=40, deadline=None)
@given(data=st.data(), exponent=st.sampled_from([0.0, 0.5, 1.0]), held=st.floats(0.0, 5.0), t=st.floats(0.0, 6.0))
@pytest.mark.parametrize("over", ["alpha", "beta_inv"])
def test_the_curve_and_its_slope(
    over: str, data: st.DataObject, exponent: float, held: float, t: float, kit: SimpleNamespace
) -> None:
    problem = data.draw(kit.problems())
    other = "beta_inv" if over == "alpha" else "alpha"
    spec = Objective.model_validate({other: held, "normalization": "weighted_mean", "weight": exponent})
    found = curve(spec, problem, "alpha" if over == "alpha" else "beta_inv", [t])

    def reward(x):
        alpha, beta_inv = (x, held) if over == "alpha" else (held, x)
        return exact_reward(problem, alpha, beta_inv, exponent)

    assert found.expected_reward[0] == pytest.approx(float(reward(mpmath.mpf(t))), rel=1e-12, abs=1e-14)
    slope = float(mpmath.diff(reward, mpmath.mpf(t), h=mpmath.mpf(10) ** -15))
    assert found.derivative[0] == pytest.approx(slope, rel=1e-10, abs=1e-14)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), alpha=st.floats(0.0, 6.0))
def test_a_task_reward_can_only_help(data: st.DataObject, alpha: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems())
    found = curve(Objective(alpha=alpha), problem, "beta_inv", np.linspace(0.0, 20.0, 41))
    assert np.all(found.derivative >= 0.0)
    assert np.all(np.diff(found.expected_reward) >= -1e-15)


def equally_spaced(reward: np.ndarray, ratio: float) -> Problem:
    weight = ratio ** np.arange(reward.size)
    return Problem(weight / weight.sum(), reward)


def polynomial_turns(reward: np.ndarray, low: float, high: float, ratio: float) -> list[float]:
    """With p_k proportional to ratio^k, E[r] is a quotient of polynomials P/Q of y = ratio^alpha: P'Q = PQ'."""
    p, q = mpmath.matrix(reward.tolist()), [1] * reward.size
    n = reward.size
    numerator = [mpmath.mpf(0)] * (2 * n - 1)
    for i in range(n):
        for j in range(n):
            if i + j > 0:
                numerator[i + j - 1] += (i - j) * p[i] * q[j]
    while abs(numerator[-1]) < mpmath.mpf(10) ** -40:
        numerator.pop()
    roots = mpmath.polyroots(numerator[::-1], maxsteps=500, extraprec=400)
    real = [mpmath.re(y) for y in roots if abs(mpmath.im(y)) < mpmath.mpf(10) ** -30 and mpmath.re(y) > 0]
    alphas = [float(mpmath.log(y) / mpmath.log(ratio)) for y in real]
    return sorted(alpha for alpha in alphas if low < alpha < high)


@pytest.mark.parametrize("seed", [*range(30), "several"])
def test_every_turning_point_is_found(seed: int | str) -> None:
    if seed == "several":  # each reward outweighs the others on its own range of alpha
        ratio, reward = 0.5, np.array([1.0, -1636.0, 806129.8, -119640264.2, 5348061522.8, -72004899337.4])
    else:
        rng = np.random.default_rng(int(seed))
        ratio = float(rng.uniform(0.3, 0.9))
        reward = rng.normal(size=int(rng.integers(3, 10))) if int(seed) % 2 else rng.integers(0, 2, 9).astype(float)
    wanted = polynomial_turns(reward, 0.0, 12.0, ratio)
    assert len(wanted) == 4 or seed != "several"
    found = turning_points(Objective(), equally_spaced(reward, ratio), 0.0, 12.0)
    np.testing.assert_allclose([point.alpha for point in found], wanted, rtol=1e-9, atol=1e-9)
    kinds = [point.kind for point in found]
    assert all(a != b for a, b in itertools.pairwise(kinds))


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-5])
def test_turning_points_close_together_are_told_apart(apart: float) -> None:
    # Rewards for which the derivative vanishes at alpha = 2 and 2 + apart: a null vector of two linear conditions.
    x = np.log([0.5, 0.25, 0.15, 0.1])
    rows = []
    for alpha in (mpmath.mpf(2), mpmath.mpf(2) + mpmath.mpf(apart)):
        mass = [mpmath.exp(alpha * v) for v in x.tolist()]
        mean = sum(m * v for m, v in zip(mass, x.tolist(), strict=True)) / sum(mass)
        rows.append([m * (v - mean) for m, v in zip(mass, x.tolist(), strict=True)])
    system = mpmath.matrix([[rows[0][0], rows[0][3]], [rows[1][0], rows[1][3]]])
    # Cov does not see a constant: with rewards (a, 1, 0, b) two equations fix a and b.
    solved = mpmath.lu_solve(system, mpmath.matrix([-rows[0][1], -rows[1][1]]))
    problem = Problem([0.5, 0.25, 0.15, 0.1], [float(solved[0]), 1.0, 0.0, float(solved[1])])
    found = turning_points(Objective(), problem, 0.0, 50.0)
    near = [point.alpha for point in found if abs(point.alpha - 2.0) < 0.2]
    np.testing.assert_allclose(near, [2.0, 2.0 + apart], atol=1e-9 / apart * 1e-2 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), beta_inv=st.sampled_from([0.0, 1.0]))
def test_a_dense_grid_sees_no_other_turn(data: st.DataObject, beta_inv: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems(most=8))
    spec = Objective(beta_inv=beta_inv, normalization="mean")
    found = turning_points(spec, problem, 0.0, 20.0)
    grid = np.linspace(0.0, 20.0, 2001)
    s = problem.log_base / problem.length
    level = problem.log_base + np.subtract.outer(grid, [1.0]) * s + beta_inv * problem.reward
    mass = np.exp(level - level.max(axis=1, keepdims=True))
    reward = mass @ problem.reward / mass.sum(axis=1)
    steps = np.diff(reward)
    clear = np.abs(steps) > 1e-13
    changes = np.flatnonzero((steps[:-1] * steps[1:] < 0) & clear[:-1] & clear[1:])
    alphas = np.array([point.alpha for point in found])
    for i in changes:
        assert np.any(np.abs(alphas - grid[i + 1]) <= 0.0101)


def exact_turn(problem: Problem, start: float) -> float:
    """The root of E[r] - E_p[r] next to a start, with 50 digits."""
    base = exact_reward(problem, mpmath.mpf(1))
    return float(mpmath.findroot(lambda alpha: exact_reward(problem, alpha) - base, mpmath.mpf(start)))


def test_when_sharpening_stops_helping() -> None:
    problem = Problem([0.45, 0.3, 0.15, 0.1], [0.0, 1.0, 0.0, 0.0])  # the second likeliest is right
    turn = stops_helping(problem)
    assert turn.stops_helping is not None
    assert turn.below_base is not None
    slope = float(mpmath.diff(lambda alpha: exact_reward(problem, alpha), mpmath.mpf(turn.stops_helping)))
    assert abs(slope) < 1e-10
    assert turn.below_base == pytest.approx(exact_turn(problem, turn.below_base), rel=1e-11)
    assert 1.0 < turn.stops_helping < turn.below_base
    inside = curve(Objective(), problem, "alpha", np.linspace(1.0, turn.below_base, 50)[1:-1])
    assert np.all(inside.expected_reward > 0.3)
    assert curve(Objective(), problem, "alpha", [turn.below_base + 1e-6]).expected_reward[0] < 0.3


@pytest.mark.parametrize(
    ("base", "reward", "wanted"),
    [
        ([0.5, 0.3, 0.2], [1.0, 0.0, 0.0], Turn(None, None)),  # the mode is right
        ([0.5, 0.3, 0.2], [0.0, 0.0, 1.0], Turn(1.0, 1.0)),  # the least likely one is
        ([0.5, 0.3, 0.2], [1.0, 1.0, 1.0], Turn(None, None)),
        ([0.5, 0.5], [0.0, 1.0], Turn(None, None)),  # nothing to sharpen
        ([1.0], [0.0], Turn(None, None)),
        ([0.4, 0.3, 0.2, 0.1, 0.0], [1.0, 0.0, 0.0, 0.0, 9.0], Turn(None, None)),
    ],
)
def test_plain_cases(base: list[float], reward: list[float], wanted: Turn) -> None:
    assert stops_helping(Problem(base, reward)) == wanted


def test_a_dip_that_recovers() -> None:
    # The mode is right, but the likely wrong answer gains first.
    problem = Problem([0.4, 0.39, 0.21], [0.6, 0.0, 1.0])
    turn = stops_helping(problem)
    assert turn == Turn(1.0, 1.0)
    (point,) = turning_points(Objective(), problem, 1.0, 1e4)
    assert point.kind == "minimum"
    assert curve(Objective(), problem, "alpha", [1e4]).expected_reward[0] == pytest.approx(0.6)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_stopping_agrees_with_a_grid(data: st.DataObject, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems(most=6, lengths=False))
    turn = stops_helping(problem)
    grid = np.linspace(1.0, 40.0, 4001)
    mass = np.exp(grid[:, None] * (problem.log_base - problem.log_base.max()))
    reward = mass @ problem.reward / mass.sum(axis=1)
    low = np.flatnonzero(reward < reward[0] - 1e-9)
    first = grid[low[0]] if low.size else math.inf
    assert (turn.below_base or math.inf) <= first + 1e-9
    if turn.below_base is not None and 1.0 < turn.below_base < 40.0:
        before = reward[grid < turn.below_base]
        assert np.all(before >= reward[0] - 1e-12)
    falls = np.flatnonzero(np.diff(reward) < -1e-9)
    first = grid[falls[0] + 1] if falls.size else math.inf
    assert (turn.stops_helping or math.inf) <= first
    if turn.stops_helping is not None and turn.stops_helping > 1.0:
        before = reward[grid < turn.stops_helping]
        assert np.all(np.diff(before) >= -1e-12)


def test_a_reward_that_rises_with_the_likelihood_never_turns() -> None:
    base = np.random.default_rng(0).dirichlet(np.ones(1000))
    problem = Problem(base, np.sqrt(base))
    assert turning_points(Objective(), problem, 0.0, 1e4) == ()
    assert stops_helping(problem) == Turn(None, None)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: curve(preset("task-reward"), DEFAULT_PROBLEM, "alpha", [1.0]),
        lambda: curve(Objective(reference="policy"), DEFAULT_PROBLEM, "alpha", [1.0]),
        lambda: curve(Objective(), DEFAULT_PROBLEM, "gamma", [1.0]),  # pyright: ignore[reportArgumentType]
        lambda: curve(Objective(), DEFAULT_PROBLEM, "alpha", []),
        lambda: curve(Objective(), DEFAULT_PROBLEM, "alpha", [-1.0]),
        lambda: curve(Objective(), DEFAULT_PROBLEM, "alpha", [math.nan]),
        lambda: curve(Objective(), Problem([0.5, 0.5], [0.0, 10.0]), "beta_inv", [1e308]),
        lambda: turning_points(Objective(), DEFAULT_PROBLEM, 2.0, 1.0),
        lambda: turning_points(Objective(), DEFAULT_PROBLEM, 0.0, math.inf),
        lambda: stops_helping(DEFAULT_PROBLEM, preset("sharpening")),
    ],
)
def test_bad_input(bad: object) -> None:
    assert callable(bad)
    with pytest.raises(InputError):
        bad()
