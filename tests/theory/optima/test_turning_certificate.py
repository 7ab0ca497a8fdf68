"""What makes sure that no turning point is missed: the bound of the curvature, the step from it, the search's end."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sharpen.objective import Objective
from sharpen.theory.core.backend import Family
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima import turning
from sharpen.theory.optima.response import turning_points

Exact = Any  # mpmath.mpf: the package has no types


def covariance(members: Family, alpha: Exact) -> Exact:
    """Cov(r, s) at alpha in the working precision."""
    weight = [
        mpmath.exp(mpmath.mpf(a) + alpha * mpmath.mpf(x))
        for a, x in zip(members.offset.tolist(), members.slope.tolist(), strict=True)
    ]
    total = mpmath.fsum(weight)

    def mean(values: list[Exact]) -> Exact:
        return mpmath.fsum(w * v for w, v in zip(weight, values, strict=True)) / total

    r, s = ([mpmath.mpf(x) for x in array.tolist()] for array in (members.reward, members.slope))
    return mean([x * y for x, y in zip(r, s, strict=True)]) - mean(r) * mean(s)


def bound(members: Family, low: float, high: float) -> float:
    away = turning._distances(members.reward)
    numbers = turning._numbers(members, away, np.array([low, high]))
    return float(turning._curvature(numbers[:, :1], numbers[:, 1:], np.array([high - low]))[0])


def largest_curvature(members: Family, low: float, high: float, points: int = 21) -> float:
    with mpmath.workdps(50):
        step = mpmath.mpf(10) ** -15
        at = [mpmath.mpf(low) + (mpmath.mpf(high) - low) * i / (points - 1) for i in range(points)]
        second = [
            (covariance(members, x + step) - 2 * covariance(members, x) + covariance(members, x - step)) / step**2
            for x in at
        ]
        return float(max(abs(x) for x in second))


NUMBERS = st.floats(-3.0, 3.0)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=2, max_size=5),
    low=st.floats(0.0, 5.0),
    width=st.sampled_from([0.0, 1e-3, 0.1, 1.0, 4.0]),
)
def test_the_bound_is_one(rows: list[tuple[float, float, float]], low: float, width: float) -> None:
    members = Family(*np.array(rows).T)
    assume(np.ptp(members.reward) > 1e-3)  # of one reward there is nothing to look for
    assert largest_curvature(members, low, low + width, 5) <= bound(members, low, low + width) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("share", [0.51, 0.53, 0.55])
def test_the_bound_where_the_third_term_is_needed(share: float) -> None:
    # Two outcomes of nearly equal mass, where 3 Var(s) Cov(r, s) is most of the curvature.
    members = Family(np.log([1.0 - share, share]), np.array([-1.0, 1.0]), np.array([0.0, 1.0]))
    assert largest_curvature(members, 0.0, 0.0, 2) <= bound(members, 0.0, 0.0)


def test_the_bound_where_the_ends_show_nothing() -> None:
    # All the reward is on an outcome that has hardly any mass at either end, and most of it in between.
    members = Family(np.array([0.0, 3.0, 0.0]), np.array([-1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    curvature = largest_curvature(members, -12.0, 12.0, 49)
    assert 0.05 < curvature <= bound(members, -12.0, 12.0)


def two_roots(place: float, apart: float, middle: float, far: float, rare: float) -> Family:
    """Four groups, 0, 1, middle and far below the best: dE[r]/d alpha is above 0 between two zeros ``apart``.

    Of the three rare groups the second has less reward than the best and the others more. Their parts of the
    derivative add up to a double zero at ``place``, and the second has a little more than its part.
    """
    part = np.array([(far - middle) / (far - 1.0), 1.0, (middle - 1.0) / (far - 1.0)])
    part[1] += (middle - 1.0) * (far - middle) * (apart / 2.0) ** 2 / 2.0
    below = np.array([1.0, middle, far])
    offset = np.log(rare * part / (0.5 * below)) + place * below
    order = [2, 1, 0]
    return Family(np.append(offset[order], 0.0), np.append(-below[order], 0.0), np.array([1.0, 0.0, 1.0, 0.5]))


def exact_roots(members: Family, place: float, apart: float) -> list[float]:
    with mpmath.workdps(50):
        lowest = mpmath.findroot(lambda x: mpmath.diff(lambda y: covariance(members, y), x, h=1e-20), place)
        return [
            float(mpmath.findroot(lambda x: covariance(members, x), (lowest, lowest + side * apart), solver="anderson"))
            for side in (-1, 1)
        ]


@pytest.mark.parametrize("rare", [1e-6, 1e-9, 1e-11])
def test_two_turning_points_in_one_range(rare: float) -> None:
    # The range is the first that is looked at: at its ends the derivative is above the bound for half the curvature
    # there is, so a certificate that is half as strict would pass it by.
    place, width = 4.0, 2e-3
    members = two_roots(place, 0.4 * width, 5.0, 50.0, rare)
    roots = exact_roots(members, place, 0.4 * width)
    assert place - width / 2 < roots[0] < roots[1] < place + width / 2
    found = turning.sign_changes(turning.groups_of(members), place - width / 2, place + width / 2)
    np.testing.assert_allclose([alpha for alpha, _ in found], roots, rtol=0.0, atol=1e-7)
    assert [sign for _, sign in found] == [-1, 1]  # more reward below the best: E[r] falls as it loses its weight


@pytest.mark.parametrize(("count", "below"), [(100, (1.0, 1.5)), (100, (3.0, 3.5)), (20, (2.5, 2.75))])
def test_a_turning_point_where_nearly_all_mass_is_on_one_outcome(count: int, below: tuple[float, float]) -> None:
    # One likeliest outcome, one below it without reward, many below that with more: the mass off the best falls with
    # alpha to 1e-4 and 1e-13, and only there the many lose their weight against the one.
    score = np.array([0.0, -below[0], *[-below[1]] * count])
    reward = np.array([0.5, 0.0, *[1.0] * count])
    problem = Problem.from_log(score - np.logaddexp.reduce(score), reward)
    with mpmath.workdps(60):
        members = Family(np.zeros(score.size), problem.log_base, reward)
        start = np.log(count * below[1] / below[0]) / (below[1] - below[0])
        root = float(mpmath.findroot(lambda x: covariance(members, x), start))
    found = [(point.alpha, point.kind) for point in turning_points(Objective(), problem, 0.0, 60.0)]
    assert [kind for _, kind in found][-1] == "minimum"
    assert found[-1][0] == pytest.approx(root, rel=1e-9)


def test_kinds_by_the_reward_on_both_sides() -> None:
    problem = Problem([0.45, 0.3, 0.15, 0.1], [0.0, 1.0, 0.0, 0.4])
    points = turning_points(Objective(), problem, 0.0, 20.0)
    assert points
    for point in points:
        here, left, right = (
            problem.base**alpha @ problem.reward / np.sum(problem.base**alpha)
            for alpha in (point.alpha, point.alpha - 1e-3, point.alpha + 1e-3)
        )
        assert point.expected_reward == pytest.approx(here, rel=1e-12)
        assert point.kind == ("maximum" if here > max(left, right) else "minimum")
        assert here > max(left, right) or here < min(left, right)
