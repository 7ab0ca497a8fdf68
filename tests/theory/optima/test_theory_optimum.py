"""Optima against numerical maximisation, enumeration and the identities they obey."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from sharpen.objective import PRESETS, InputError, Objective, preset
from sharpen.theory.core.problem import Problem, parse_problem
from sharpen.theory.optima.optimum import optimum


@settings(max_examples=25)
@given(data=st.data())
def test_with_entropy_no_other_policy_is_better(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives(mode="sampling"))
    oracle = kit.Oracle(objective, problem)
    best = optimum(objective, problem)
    scale = oracle.entropy
    theta = np.log(problem.base)
    for _ in range(3):  # restarts: the optimiser's model of the curvature goes stale on the way to a corner
        theta = minimize(lambda x: -oracle.value(np.exp(log_softmax(x))) / scale, theta, jac="3-point", tol=1e-9).x
    found = oracle.value(np.exp(log_softmax(theta)))
    gap = (best.value - found) / scale
    assert -1e-9 * (1 + abs(found) / scale) < gap < 1e-4
    assert best.value == pytest.approx(oracle.value(best.probabilities), rel=1e-9, abs=1e-12)
    # Pinsker: what the optimiser lacks in value bounds its distance from the only optimum.
    distance = np.abs(best.probabilities - np.exp(log_softmax(theta))).sum()
    assert distance <= np.sqrt(2 * max(gap, 0.0)) + 1e-5


@settings(max_examples=25)
@given(data=st.data())
def test_the_gap_to_the_optimum_is_a_kl(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives(mode="sampling"))
    pi = data.draw(kit.policies(problem.n))
    best = optimum(objective, problem)
    assume(np.all(best.probabilities > 1e-200))
    kl = float(np.sum(pi * np.log(pi / best.probabilities)))
    w_h = 1.0 / objective.beta_inv if objective.beta_inv > 0 else 1.0
    gap = best.value - kit.Oracle(objective, problem).value(pi)
    assert gap == pytest.approx(w_h * kl, rel=1e-8, abs=1e-10)


@settings(max_examples=25)
@given(data=st.data())
def test_without_entropy_the_best_vertex_is_found(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives(mode="optimization"))
    oracle = kit.Oracle(objective, problem)
    values = [oracle.value(np.eye(problem.n)[i]) for i in range(problem.n)]
    best = optimum(objective, problem)
    assert best.value == pytest.approx(max(values), rel=1e-12)
    tied = [i for i in range(problem.n) if values[i] > max(values) - 1e-11]
    assert set(best.support) <= set(tied)


@settings(max_examples=25)
@given(data=st.data())
def test_relabelling_outcomes_relabels_the_optimum(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem = data.draw(kit.problems())
    objective = data.draw(kit.objectives())
    order = data.draw(st.permutations(range(problem.n)))
    moved = Problem(problem.base[order], problem.reward[order], problem.length[order])
    np.testing.assert_allclose(
        optimum(objective, moved).probabilities, optimum(objective, problem).probabilities[order], atol=1e-12
    )


def test_task_reward_keeps_the_base_ratios_among_correct_outcomes(default_problem: Problem) -> None:
    best = optimum(preset("task-reward"), default_problem)
    assert best.support == (1, 3)
    np.testing.assert_allclose(best.probabilities, [0, 25 / 37, 0, 12 / 37, 0], rtol=1e-14)
    assert (best.value, best.expected_reward, best.unique) == (1.0, 1.0, False)


def test_sharpening_ends_in_the_mode_whatever_its_reward(default_problem: Problem) -> None:
    best = optimum(preset("sharpening"), default_problem)
    assert (best.support, best.expected_reward, best.unique) == ((0,), 0.0, True)
    assert best.value == pytest.approx(np.log(0.4))


def test_tied_modes_share() -> None:
    third = 0.1 + 0.2  # the float after 0.3: a tie that only rounding breaks
    best = optimum(preset("sharpening"), Problem([0.3, third, 0.2, 0.2], [0, 0, 0, 0]))
    assert (best.support, best.unique) == ((0, 1), False)
    np.testing.assert_allclose(best.probabilities, [0.5, 0.5, 0, 0], rtol=1e-14)
    assert optimum(preset("sharpening"), Problem([0.3, 0.3 + 1e-9, 0.4 - 1e-9], [0, 0, 0])).support == (2,)
    assert optimum(preset("sharpening"), Problem([0.4, 0.4 + 1e-9, 0.2 - 1e-9], [0, 0, 0])).support == (1,)


def test_limits_of_the_tilted_and_tempered_optima(default_problem: Problem) -> None:
    p, correct = default_problem.base, default_problem.reward > 0
    sharp = optimum(Objective(alpha=1.5, beta_inv=1e5), default_problem).probabilities
    restricted = np.where(correct, p**1.5, 0.0)
    np.testing.assert_allclose(sharp, restricted / restricted.sum(), atol=1e-9)
    tied = Problem([0.4, 0.4, 0.2], [0, 1, 0])
    np.testing.assert_allclose(optimum(Objective(alpha=1e6), tied).probabilities, [0.5, 0.5, 0.0], atol=1e-9)
    np.testing.assert_allclose(optimum(Objective(alpha=1.0), default_problem).probabilities, p, rtol=1e-13)
    np.testing.assert_allclose(optimum(Objective(alpha=0.0), default_problem).probabilities, [0.2] * 5, rtol=1e-13)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("objective", [*PRESETS.values(), Objective(alpha=0.0), Objective(alpha=2, reference="policy")])
def test_outcomes_that_the_base_excludes_stay_excluded(objective: Objective) -> None:
    best = optimum(objective, Problem([0.6, 0.0, 0.4], [0.0, 1.0, 0.5]))
    inner = optimum(objective, Problem([0.6, 0.4], [0.0, 0.5]))
    assert 1 not in best.support
    assert best.value == pytest.approx(inner.value)
    np.testing.assert_allclose(best.probabilities[[0, 2]], inner.probabilities, rtol=1e-13)


def test_huge_alpha_stays_finite_and_too_huge_alpha_is_refused(default_problem: Problem) -> None:
    best = optimum(Objective(alpha=1e300), default_problem)
    assert best.probabilities.tolist() == [1, 0, 0, 0, 0]
    assert best.support == (0, 1, 2, 3, 4)
    with pytest.raises(InputError, match="alpha"):
        optimum(Objective(alpha=1e308), default_problem)


def test_one_outcome() -> None:
    for objective in PRESETS.values():
        best = optimum(objective, Problem([1.0], [0.5]))
        assert (best.support, best.unique, best.expected_reward) == ((0,), True, 0.5)


def test_self_sharpening_ends_by_alpha(default_problem: Problem) -> None:
    for reference in ("policy", "refresh:7"):
        flat = optimum(Objective(alpha=0.5, reference=reference), default_problem)
        np.testing.assert_allclose(flat.probabilities, [0.2] * 5, rtol=1e-13)
        stays = optimum(Objective(alpha=1.0, reference=reference), default_problem)
        np.testing.assert_allclose(stays.probabilities, default_problem.base, rtol=1e-13)
        collapsed = optimum(Objective(alpha=2.0, reference=reference), default_problem)
        assert collapsed.probabilities.tolist() == [1, 0, 0, 0, 0]
        assert [flat.unique, stays.unique, collapsed.unique] == [True, False, False]


def test_every_alpha_of_the_paper_tempers_exactly(default_problem: Problem) -> None:
    for alpha, beta_inv in itertools.product([0.5, 1, 1.25, 2, 4], [0, 100, 10000]):
        log_target = alpha * np.log(default_problem.base) + beta_inv * default_problem.reward
        best = optimum(Objective(alpha=alpha, beta_inv=beta_inv), default_problem)
        np.testing.assert_allclose(best.probabilities, np.exp(log_softmax(log_target)), rtol=1e-9, atol=1e-300)


def test_a_hundred_thousand_outcomes() -> None:
    problem = parse_problem("zipf:100000", "indices:99999")
    assert optimum(preset("task-reward"), problem).support == (99999,)
    best = optimum(Objective(alpha=2.0), problem)
    assert best.probabilities[0] == pytest.approx(6 / np.pi**2, rel=1e-4)  # 1/zeta(2)
