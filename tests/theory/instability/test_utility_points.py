"""All stationary points with a utility of the success rate beside SciPy's roots on each support alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import root_scalar
from scipy.special import expit, log_expit

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.instability.points import CLASSES, classify
from sharpen.theory.instability.stationary import fixed_points
from sharpen.theory.optima import utilities

BASE = np.array([0.35, 0.2, 0.0, 0.04, 0.16, 0.05, 0.2])  # an outcome that cannot be in the middle
REWARD = np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0])
PROBLEM = Problem(BASE, REWARD)
ALPHA = 1.5
GRID = np.linspace(-60.0, 60.0, 4801)  # of log-odds, on which changes of sign are looked for


def slope(utility: str, x: np.ndarray | float) -> np.ndarray | float:
    """f'(P) at P = expit(x), from the utility's definition."""
    if utility == "log":
        return np.exp(-log_expit(x))  # 1 / P
    if utility == "arcsin":
        return np.exp(-0.5 * (log_expit(x) + log_expit(-x)))  # (P (1 - P))^(-1/2)
    return 4.0 * np.exp(3.0 * log_expit(-x))  # pass@4: 4 (1 - P)^3


def alone(utility: str, w: float) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Support and policy of every point, by a search on each support."""
    found = []
    possible = np.flatnonzero(BASE).tolist()
    for size in range(1, len(possible) + 1):
        for support in itertools.combinations(possible, size):
            kept = list(support)
            level, right = ALPHA * np.log(BASE[kept]), REWARD[kept] == 1.0
            tilts = [0.0]
            if right.any() and not right.all():
                start = float(np.log(np.exp(level[right]).sum() / np.exp(level[~right]).sum()))

                def excess(x: np.ndarray | float, start: float = start) -> np.ndarray | float:
                    return w * slope(utility, x) - (x - start)

                signs = np.sign(excess(GRID))
                places = np.flatnonzero(signs[:-1] * signs[1:] < 0)
                tilts = [root_scalar(excess, bracket=(GRID[i], GRID[i + 1]), xtol=1e-14).root - start for i in places]
            for tilt in tilts:
                policy = np.zeros(BASE.size)
                policy[kept] = np.exp(level + tilt * right) / np.exp(level + tilt * right).sum()
                found.append((support, policy))
    return found


@pytest.mark.parametrize("w", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("utility", ["log", "arcsin", "pass@4"])
def test_every_point_is_found_and_no_other(utility: str, w: float) -> None:
    objective = Objective(alpha=ALPHA, beta_inv=w, utility=utility)
    found, wanted = fixed_points(objective, PROBLEM), alone(utility, w)
    assert found.complete
    assert found.total == len(found.points) == len(wanted)
    left = list(found.points)
    for support, policy in wanted:
        nearest = min(
            (point for point in left if point.support == support),
            key=lambda point: float(np.abs(point.probabilities - policy).max()),
        )
        np.testing.assert_allclose(nearest.probabilities, policy, rtol=1e-10, atol=1e-14)
        assert nearest.expected_reward == pytest.approx(policy @ REWARD, rel=1e-10)
        left = [point for point in left if point is not nearest]
    assert not left


@pytest.mark.parametrize("utility", ["log", "arcsin", "pass@4"])
def test_rows_are_the_points_in_order(utility: str) -> None:
    points = fixed_points(Objective(alpha=ALPHA, beta_inv=0.4, utility=utility), PROBLEM).points
    frame, listed = points.frame(), list(points)
    assert list(frame) == list(points[0].row())
    for name in ("support", "kind", "value", "expected_reward", "continuum"):
        assert frame[name].tolist() == [getattr(point, name) for point in listed]
    assert [point.kind for point in listed] == [classify(point.eigenvalues) for point in listed]
    for name, end in (("largest_eigenvalue", 0), ("smallest_eigenvalue", -1)):
        np.testing.assert_allclose(frame[name], [point.eigenvalues[end] for point in listed], rtol=1e-14)
    assert all(len(point.eigenvalues) == 5 and np.all(point.eigenvalues[:-1] >= point.eigenvalues[1:])
               for point in listed)  # fmt: skip
    keys = [(CLASSES.index(point.kind), -point.value, point.support) for point in listed]
    assert keys == sorted(keys)
    assert [point.support for point in points[3:9]] == [point.support for point in listed[3:9]]
    assert points[-1].support == listed[-1].support


def test_side_by_side_is_one_by_one() -> None:
    rng = np.random.default_rng(0)
    starts = np.concatenate([rng.normal(size=40) * 8.0, [0.0, -400.0, 400.0]])
    for name, w in itertools.product(("identity", "log", "arcsin", "pass@6"), (0.0, 0.05, 1.0, 30.0)):
        lower, upper = utilities.solved(name, starts, w)
        for start, *both in zip(starts.tolist(), lower.tolist(), upper.tolist(), strict=True):
            wanted = [x for x, _ in utilities.roots(name, start, w)]
            assert [x for x in both if not math.isnan(x)] == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_at_the_fold_two_points_are_one() -> None:
    w = 0.8
    border = 2.0 * math.asinh(1.0 / w) - 2.0 * math.sqrt(1.0 + w * w)
    lower, upper = utilities.solved("arcsin", np.array([border - 0.1, border, border + 0.1]), w)
    assert lower[0] < upper[0]
    assert lower[1] == upper[1]
    assert np.isnan([lower[2], upper[2]]).all()
    p = float(expit(border))
    points = fixed_points(Objective(beta_inv=w, utility="arcsin"), Problem([1.0 - p, p], [0, 1])).points
    assert [len(point.support) for point in points].count(2) == 1


def test_sixteen_outcomes_are_all_listed_where_the_limit_allows() -> None:
    rng = np.random.default_rng(2)
    problem = Problem(rng.dirichlet(np.ones(16)), (np.arange(16) % 3 == 0).astype(float))
    objective = Objective(alpha=2.0, beta_inv=1.0, utility="log")
    found = fixed_points(objective, problem, limit=2**16)
    assert (found.total, found.complete, found.points[0].kind) == (2**16 - 1, True, "stable")
    assert found.points[0].probabilities == pytest.approx(
        np.exp(utilities.log_limit(objective, problem)), rel=1e-10, abs=1e-300
    )


def test_more_supports_than_allowed_are_refused() -> None:
    objective = Objective(beta_inv=1.0, utility="log")
    with pytest.raises(InputError, match=r"at least 63: .*every support"):
        fixed_points(objective, PROBLEM, limit=62)
    many = Problem(np.full(21, 1.0 / 21.0), np.arange(21) % 2)
    with pytest.raises(InputError, match=r"at most 20 possible outcomes"):
        fixed_points(objective, many, limit=2**21)
