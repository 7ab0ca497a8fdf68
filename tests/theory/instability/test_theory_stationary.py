"""Fixed points against the vanishing field, finite differences, simulation and counting."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import null_space
from scipy.special import softmax

from sharpen.objective import PRESETS, InputError, Objective, preset
from sharpen.theory.core.flow import vector_field
from sharpen.theory.core.problem import Problem, parse_problem
from sharpen.theory.instability.stationary import FixedPoint, classify, fixed_points
from sharpen.theory.optima.optimum import optimum

REFERENCES = st.sampled_from(["frozen", "policy"])


def field_jacobian(field, pi: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a field along the simplex, in an orthonormal basis of the tangent space."""
    basis = null_space(np.ones((1, pi.size)))
    columns = [(field(pi + step * b) - field(pi - step * b)) / (2 * step) for b in basis.T]
    return basis.T @ np.array(columns).T


@settings(max_examples=25)
@given(data=st.data())
def test_the_field_vanishes_at_every_listed_point(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives(reference=data.draw(REFERENCES)))
    oracle_scale = 1.0 + np.max(np.abs(kit.Oracle(objective, problem).advantage(np.log(problem.base))))
    found = fixed_points(objective, problem)
    assert found.complete
    assert len(found.points) == found.total
    for point in found.points:
        assert np.max(np.abs(vector_field(objective, problem, point.probabilities))) < 1e-11 * oracle_scale
        assert point.probabilities.sum() == pytest.approx(1.0, abs=1e-12)
        assert point.value == pytest.approx(
            kit.Oracle(objective, problem).value(point.probabilities), abs=1e-9 * oracle_scale
        )
        assert point.expected_reward == pytest.approx(point.probabilities @ problem.reward)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 10])
@pytest.mark.parametrize(
    "objective",
    [
        Objective(alpha=2.0),
        Objective(alpha=0.5, beta_inv=10.0),
        *(Objective(alpha=a, reference="policy") for a in (0.5, 2)),
    ],
)
def test_there_is_one_interior_point_per_support(objective: Objective, n: int) -> None:
    found = fixed_points(objective, parse_problem(f"dirichlet:{n}:0"))
    assert found.total == 2**n - 1
    assert len({point.support for point in found.points}) == 2**n - 1


@settings(max_examples=25)
@given(data=st.data())
def test_tangent_eigenvalues_are_those_of_finite_differences(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems(most=4))
    objective = data.draw(kit.objectives(mode="sampling", reference=data.draw(REFERENCES)))
    for point in fixed_points(objective, problem).points:
        kept = list(point.support)
        if len(kept) == 1 or point.probabilities[kept].min() < 1e-3:
            continue
        jacobian = field_jacobian(kit.Oracle(objective, problem, kept).field, point.probabilities[kept])
        expected = np.sort(np.linalg.eigvals(jacobian).real)[::-1]
        finite = point.eigenvalues[np.isfinite(point.eigenvalues)]
        np.testing.assert_allclose(finite, expected, atol=2e-4 * (1 + np.max(np.abs(expected))))


@settings(max_examples=25)
@given(data=st.data())
def test_vertex_eigenvalues_without_entropy_are_those_of_finite_differences(
    kit: SimpleNamespace, data: st.DataObject
) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives(mode="optimization"))
    u = kit.Oracle(objective, problem).advantage(np.zeros(problem.n))
    for point in fixed_points(objective, problem).points:
        jacobian = field_jacobian(lambda pi: pi * (u - pi @ u), point.probabilities)
        expected = np.sort(np.linalg.eigvals(jacobian).real)[::-1]
        np.testing.assert_allclose(point.eigenvalues, expected, atol=1e-7 * (1 + np.max(np.abs(u))))


@settings(max_examples=15)
@given(data=st.data())
def test_infinite_eigenvalues_are_rates_that_diverge(kit: SimpleNamespace, data: st.DataObject) -> None:
    """At mass e of an absent outcome its log grows at rate A_j - E A, which moves by c log 10 with every digit of e."""
    problem = data.draw(kit.problems(most=4, lengths=False))
    objective = data.draw(kit.objectives(mode="sampling", reference=data.draw(REFERENCES)))
    for point in fixed_points(objective, problem).points:
        absent = [j for j in range(problem.n) if j not in point.support]
        infinite = point.eigenvalues[np.isinf(point.eigenvalues)]
        assert infinite.size == len(absent)
        for j in absent:
            rates = []
            for mass in (1e-50, 1e-100):
                pi = np.where(np.arange(problem.n) == j, mass, point.probabilities)
                rates.append(vector_field(objective, problem, pi)[j] / mass)
            slope = (rates[1] - rates[0]) / (50 * np.log(10))
            assert np.sign(slope) == np.sign(infinite[0])


def _perturbed(point: FixedPoint, n: int, size: float) -> list[np.ndarray]:
    """Starts near a point: mass moved between outcomes of its support, or given to one that is absent."""
    pi, kept = point.probabilities, list(point.support)
    starts = []
    for i, j in itertools.pairwise(kept):
        move = size * min(pi[i], pi[j])
        starts.append(pi + move * (np.eye(n)[j] - np.eye(n)[i]))
    starts += [(1 - size) * pi + size * np.eye(n)[j] for j in range(n) if j not in kept]
    return starts


def _distance_ratio(
    oracle_class, objective: Objective, problem: Problem, point: FixedPoint, start: np.ndarray
) -> float:
    kept = np.flatnonzero(start)
    finite = np.abs(point.eigenvalues[np.isfinite(point.eigenvalues) & (point.eigenvalues != 0)])
    time = 2.0 / (finite.min() if finite.size else 0.5)
    velocity = oracle_class(objective, problem, kept.tolist()).logit_velocity
    end = softmax(solve_ivp(velocity, (0, time), np.log(start[kept]), method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1])
    away = start[kept] - point.probabilities[kept]
    absent = point.probabilities[kept] == 0
    if np.any(absent):  # follow the new outcome alone: what it takes from the others may excite their own modes
        return float(end[absent][0] / away[absent][0])
    return float(np.abs(end - point.probabilities[kept]).sum() / np.abs(away).sum())


@pytest.mark.parametrize(
    "objective",
    [
        *PRESETS.values(),
        preset("tilted", beta_inv=1.0),
        Objective(alpha=0.5, reference="policy"),
        Objective(alpha=2.0, reference="policy"),
        Objective(alpha=2.0, beta_inv=2.0, reference="policy", normalization="mean"),
        Objective(alpha=1.0, reference="policy"),
        Objective(alpha=1.5, mode="optimization", reference="policy"),
    ],
    ids=lambda objective: "-".join(objective.to_flags()[1::2]),
)
def test_classes_agree_with_simulation(kit: SimpleNamespace, objective: Objective) -> None:
    problem = Problem([0.45, 0.30, 0.15, 0.10], [0, 1, 0, 1], [1, 2, 2, 3])
    for point in fixed_points(objective, problem).points:
        ratios = np.array(
            [_distance_ratio(kit.Oracle, objective, problem, point, s) for s in _perturbed(point, problem.n, 1e-6)]
        )
        grows, decays, stays = np.any(ratios > 2), np.any(ratios < 0.5), np.any(np.abs(ratios - 1) < 0.01)
        assert grows == (point.kind in ("saddle", "unstable"))
        assert decays == (bool(np.any(point.eigenvalues < 0)))
        assert stays == bool(np.any(point.eigenvalues == 0))


def test_self_sharpening_rests_on_uniform_distributions() -> None:
    problem = parse_problem("dirichlet:5:1")
    for alpha, others in ((0.25, np.inf), (3.0, -np.inf)):
        for point in fixed_points(Objective(alpha=alpha, reference="policy"), problem).points:
            size = len(point.support)
            np.testing.assert_allclose(point.probabilities[list(point.support)], 1 / size, rtol=1e-12)
            expected = np.sort([alpha - 1.0] * (size - 1) + [others] * (5 - size))[::-1]
            np.testing.assert_allclose(point.eigenvalues, expected, rtol=1e-12)
    kinds = {
        alpha: [point.kind for point in fixed_points(Objective(alpha=alpha, reference="policy"), problem).points]
        for alpha in (0.25, 3.0)
    }
    assert (kinds[0.25].count("stable"), kinds[0.25].count("unstable")) == (1, 5)
    assert (kinds[3.0].count("stable"), kinds[3.0].count("unstable")) == (5, 1)
    still = fixed_points(Objective(alpha=1.0, reference="policy"), problem)
    assert [(point.kind, point.continuum, len(point.support)) for point in still.points] == [("neutral", True, 5)]


def test_the_power_map_has_jacobian_alpha_where_the_flow_has_alpha_minus_one() -> None:
    alpha, uniform = 3.0, np.full(4, 0.25)
    jacobian = field_jacobian(lambda pi: pi**alpha / np.sum(pi**alpha), uniform)
    np.testing.assert_allclose(np.linalg.eigvals(jacobian).real, alpha, rtol=1e-6)
    points = fixed_points(Objective(alpha=alpha, reference="refresh:5"), parse_problem("zipf:4")).points
    np.testing.assert_allclose(points[-1].eigenvalues + 1.0, alpha, rtol=1e-12)


def test_faces_of_tied_potential() -> None:
    found = fixed_points(preset("task-reward"), Problem([0.4, 0.25, 0.15, 0.12, 0.08], [0, 1, 0.5, 1, 0.5]))
    assert [(p.support, p.kind, p.continuum) for p in found.points] == [
        ((1, 3), "neutral", True),
        ((2, 4), "saddle", True),
        ((0,), "unstable", False),
    ]
    np.testing.assert_allclose(found.points[1].probabilities, [0, 0, 15 / 23, 0, 8 / 23], rtol=1e-14)
    np.testing.assert_allclose(found.points[1].eigenvalues, [0.5, 0.5, 0.0, -0.5], rtol=1e-14)


def test_outcomes_outside_the_base_do_not_count() -> None:
    found = fixed_points(Objective(alpha=2.0), Problem([0.5, 0.0, 0.3, 0.2], [0, 1, 0, 0]))
    assert found.total == 7
    assert all(1 not in point.support and point.eigenvalues.size == 2 for point in found.points)


def test_order_is_by_class_then_value() -> None:
    points = fixed_points(preset("tilted"), parse_problem("dirichlet:6:0")).points
    names = [point.kind for point in points]
    assert names == sorted(names, key=["stable", "neutral", "saddle", "unstable"].index)
    saddles = [point.value for point in points if point.kind == "saddle"]
    assert saddles == sorted(saddles, reverse=True)


@pytest.mark.parametrize("objective", [*PRESETS.values(), Objective(alpha=2.0, reference="policy")])
def test_too_many_points_are_counted_and_a_choice_is_listed(objective: Objective) -> None:
    problem = parse_problem("zipf:3000")
    found = fixed_points(objective, problem, limit=50)
    best = optimum(objective, problem)
    assert best.support in [point.support for point in found.points]
    assert len({point.support for point in found.points}) == len(found.points) <= 50
    if objective.regime == "task-reward":
        assert (found.total, found.complete) == (2, True)
        return
    assert not found.complete
    assert len(found.points) == 50
    interior = objective.mode == "sampling"
    assert found.total == (2**3000 - 1 if interior else 3000)
    assert (tuple(range(3000)) in [point.support for point in found.points]) == interior


def test_limit_one_lists_the_optimum_only() -> None:
    problem = parse_problem("zipf:5")
    for objective in PRESETS.values():
        found = fixed_points(objective, problem, limit=1)
        assert [point.support for point in found.points] == [optimum(objective, problem).support]
    with pytest.raises(InputError, match="limit"):
        fixed_points(Objective(alpha=2.0), problem, limit=0)


@pytest.mark.parametrize("base", ["zipf:100000", "uniform:100000"])
def test_a_hundred_thousand_outcomes_are_quick(base: str) -> None:
    for objective in PRESETS.values():
        found = fixed_points(objective, parse_problem(base))
        assert sum(point.probabilities.size for point in found.points) <= 10**6


def test_many_distinct_lengths_are_refused_with_a_reason() -> None:
    problem = Problem(np.full(1001, 1 / 1001), np.zeros(1001), np.arange(1, 1002))
    with pytest.raises(InputError, match="distinct lengths"):
        fixed_points(Objective(alpha=2.0, reference="policy", normalization="mean"), problem)
    assert fixed_points(Objective(alpha=2.0, normalization="mean"), problem).points[0].kind == "stable"


def test_classify() -> None:
    cases = {(): "stable", (-1,): "stable", (0, -1): "neutral", (0,): "neutral", (1, -1): "saddle"}
    cases |= {(1, 0, -1): "saddle", (1, 0): "unstable", (np.inf,): "unstable", (np.inf, -1): "saddle"}
    assert {signs: classify(np.array(signs, dtype=float)) for signs in cases} == cases
