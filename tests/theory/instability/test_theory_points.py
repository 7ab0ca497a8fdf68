"""All stationary points at once beside each computed alone, by SciPy and by the eigenvalues of an explicit matrix."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.instability.points import FixedPoint, SupportPoints
from sharpen.theory.instability.stationary import fixed_points

LENGTHS = [1, 2, 2, 5, 9, 3, 4]


def problem(n: int, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    return Problem(rng.dirichlet(np.ones(n)), rng.normal(size=n), (LENGTHS * 3)[:n])


def supports(n: int) -> list[tuple[int, ...]]:
    return [s for size in range(1, n + 1) for s in itertools.combinations(range(n), size)]


def by_support(objective: Objective, given: Problem) -> dict[tuple[int, ...], FixedPoint]:
    found = fixed_points(objective, given)
    assert isinstance(found.points, SupportPoints)
    assert (found.total, found.complete, len(found.points)) == (2**given.n - 1, True, 2**given.n - 1)
    return {point.support: point for point in found.points}


def test_tempered_points_are_softmaxes_of_each_support() -> None:
    given, b = problem(7), 3.0
    found = by_support(Objective(alpha=2.0, beta_inv=b), given)
    u = 2.0 * given.log_base + b * given.reward
    assert set(found) == set(supports(7))
    for support, point in found.items():
        kept = list(support)
        np.testing.assert_allclose(point.probabilities[kept], softmax(u[kept]), rtol=1e-12)
        assert np.count_nonzero(point.probabilities) == len(kept)
        assert point.value == pytest.approx(np.logaddexp.reduce(u[kept]) / b, rel=1e-12)
        assert point.expected_reward == pytest.approx(softmax(u[kept]) @ given.reward[kept], rel=1e-12)
        wanted = [np.inf] * (7 - len(kept)) + [-1.0 / b] * (len(kept) - 1)
        np.testing.assert_allclose(point.eigenvalues, wanted, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_unequal_lengths_by_one_equation_and_an_explicit_matrix(alpha: float) -> None:
    # p = pi and s = log p / |x|: A = (alpha - 1) log pi / |x| + r, so log pi = |x| (A - r) / (alpha - 1).
    given = problem(6)
    objective = Objective(alpha=alpha, beta_inv=1.0, reference="policy", normalization="mean")
    points = fixed_points(objective, given).points
    frame = points.frame()
    assert list(frame) == list(points[0].row())
    assert frame["support"].tolist() == [point.support for point in points]
    for row, point in zip(frame.to_dict("records"), points, strict=True):
        kept = list(point.support)
        r, rate = given.reward[kept], given.length[kept] / (alpha - 1.0)
        found = brentq(lambda a, r=r, rate=rate: logsumexp(rate * (a - r)), -200.0, 200.0, xtol=1e-14)
        level = float(found)  # pyright: ignore[reportArgumentType]
        pi = np.exp(rate * (level - r))
        np.testing.assert_allclose(point.probabilities[kept], pi, rtol=1e-9)
        assert point.value == row["value"] == pytest.approx(level, rel=1e-9)
        slope = -1.0 / rate
        inside = np.linalg.eigvals(-np.diag(slope) + np.outer(pi, slope)).real
        inside = np.sort(np.delete(inside, np.argmin(np.abs(inside))))[::-1]  # 0 leads out of the simplex
        finite = point.eigenvalues[np.isfinite(point.eigenvalues)]
        np.testing.assert_allclose(finite, inside, rtol=1e-8, atol=1e-10)
        outside = np.full(6 - len(kept), np.inf if alpha < 1.0 else -np.inf)
        np.testing.assert_array_equal(np.sort(point.eigenvalues[np.isinf(point.eigenvalues)]), outside)
        assert row["largest_eigenvalue"] == pytest.approx(point.eigenvalues[0], rel=1e-12, abs=1e-14)
        assert row["smallest_eigenvalue"] == pytest.approx(point.eigenvalues[-1], rel=1e-12, abs=1e-14)
        signs = {np.sign(x) for x in point.eigenvalues.tolist()}
        assert point.kind == {(1,): "unstable", (-1,): "stable"}.get(tuple(signs), "saddle")


def test_equal_values_are_in_the_order_of_their_outcomes() -> None:
    # A uniform base: all supports of one size tie but for rounding, and none ties within one outcome.
    given = Problem(np.full(5, 0.2), np.zeros(5))
    points = list(fixed_points(Objective(alpha=2.0), given).points)
    kinds = ["stable", "neutral", "saddle", "unstable"]
    assert [p.support for p in points] == [
        p.support for p in sorted(points, key=lambda p: (kinds.index(p.kind), -p.value, p.support))
    ]
    assert points[-5:] != points[:5]
    assert [p.support for p in points[-5:]] == [(0,), (1,), (2,), (3,), (4,)]


def test_places_read_as_those_of_a_list() -> None:
    points = fixed_points(Objective(alpha=2.0), problem(5)).points
    listed = list(points)
    assert points[-1].support == listed[-1].support
    assert [p.support for p in points[3:7]] == [p.support for p in listed[3:7]]
    with pytest.raises(IndexError):
        points[31]


def test_outcomes_that_the_base_lacks_have_no_place() -> None:
    given = Problem([0.5, 0.0, 0.3, 0.2], [0.0, 5.0, 1.0, 0.0])
    without = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.0])
    for one, other in zip(
        fixed_points(Objective(alpha=2.0, beta_inv=1.0), given).points,
        fixed_points(Objective(alpha=2.0, beta_inv=1.0), without).points,
        strict=True,
    ):
        assert tuple(i - (i > 1) for i in one.support) == other.support
        assert (one.value, one.expected_reward) == (other.value, other.expected_reward)


def test_sixteen_outcomes_take_the_memory_of_a_few_numbers_a_point() -> None:
    tracemalloc.start()
    found = fixed_points(Objective(alpha=2.0, beta_inv=1.0), problem(16), limit=2**16)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(found.points), found.complete) == (2**16 - 1, True)
    assert held < 40 * 2**16
    assert peak < 16 * 8 * 2**16  # of all policies alone
    assert len(found.points[0].support) == 16
