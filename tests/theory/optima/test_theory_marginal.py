"""Sharpening answers against a numerical maximum of its objective, a linear programme and the vote's limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from scipy.special import log_softmax

from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.majority import winner_probabilities
from sharpen.theory.optima.marginal import answer_optimum, compare_sharpening, mode_conflict
from sharpen.theory.optima.optimum import optimum

PROBLEM = Problem([0.3, 0.2, 0.2, 0.15, 0.1, 0.05], [0.0, 1.0, 1.0, 0.5, 0.0, 1.0])
ANSWERS = [0, 1, 1, 2, -1, 1]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Problem, list[int]]:
    n = draw(st.integers(1, 7))
    base = np.array(draw(st.lists(st.floats(0.02, 1.0), min_size=n, max_size=n)))
    answers = draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    right = draw(st.sets(st.integers(0, 3)))
    return Problem(base / base.sum(), [float(a in right) for a in answers]), answers


def marginals(problem: Problem, answers: list[int]) -> np.ndarray:
    """p(a(x)) of every outcome, by a double loop; a missing answer agrees with nobody."""
    return np.array(
        [
            sum(problem.base[j] for j in range(problem.n) if j == i or (answers[i] == answers[j] != -1))
            for i in range(problem.n)
        ]
    )


@pytest.mark.parametrize(("alpha", "beta_inv"), [(2.0, 0.0), (0.5, 0.0), (4.0, 0.0), (3.0, 2.0), (1.0, 5.0)])
def test_it_maximises_the_answer_objective(alpha: float, beta_inv: float) -> None:
    log_answer, log_p = np.log(marginals(PROBLEM, ANSWERS)), np.log(PROBLEM.base)

    def loss(theta: np.ndarray) -> float:
        log_pi = log_softmax(theta)
        gain = beta_inv * PROBLEM.reward + (alpha - 1.0) * log_answer + log_p - log_pi
        return -float(np.exp(log_pi) @ gain)

    result = minimize(loss, np.zeros(PROBLEM.n), method="BFGS", options={"gtol": 1e-9})
    found = answer_optimum(Objective(alpha=alpha, beta_inv=beta_inv), PROBLEM, ANSWERS)
    np.testing.assert_allclose(found, np.exp(log_softmax(result.x)), atol=2e-6)
    assert loss(np.log(found)) <= result.fun + 1e-12


@pytest.mark.parametrize(("alpha", "beta_inv"), [(1.0, 0.0), (2.0, 1.0), (0.0, 1.0)])
def test_without_entropy_it_solves_the_linear_programme(alpha: float, beta_inv: float) -> None:
    objective = Objective(alpha=alpha, beta_inv=beta_inv, mode="optimization")
    w = objective.coefficients
    gain = w.w_r * PROBLEM.reward + w.w_p * np.log(marginals(PROBLEM, ANSWERS))
    best = linprog(-gain, A_eq=np.ones((1, PROBLEM.n)), b_eq=[1.0])
    found = answer_optimum(objective, PROBLEM, ANSWERS)
    assert found @ gain == pytest.approx(-best.fun, abs=1e-12)
    face = gain > gain.max() - 1e-9
    np.testing.assert_allclose(found, np.where(face, PROBLEM.base, 0.0) / PROBLEM.base[face].sum(), atol=1e-14)


@settings(max_examples=60)
@given(case=cases(), alpha=st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0]))
def test_closed_form_and_laws(case: tuple[Problem, list[int]], alpha: float) -> None:
    problem, answers = case
    mass = marginals(problem, answers)
    found = answer_optimum(Objective(alpha=alpha), problem, answers)
    expected = problem.base / mass * mass**alpha  # p(x | a) p(a)^alpha
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-10)
    for a in set(answers) - {-1}:  # inside an answer the base's ratios stay
        members = np.array(answers) == a
        np.testing.assert_allclose(
            found[members] * problem.base[members].sum(), problem.base[members] * found[members].sum()
        )
    if alpha == 1.0:
        np.testing.assert_allclose(found, problem.base, rtol=1e-12)
    alone = answer_optimum(Objective(alpha=alpha), problem, range(problem.n))
    np.testing.assert_allclose(alone, optimum(Objective(alpha=alpha), problem).probabilities, rtol=1e-10)


@settings(max_examples=60)
@given(case=cases())
def test_modes_by_search(case: tuple[Problem, list[int]]) -> None:
    problem, answers = case
    found = mode_conflict(problem, answers)
    likeliest = {i for i in range(problem.n) if problem.base[i] >= problem.base.max() * (1 - 1e-10)}
    assert set(found.sequence_modes) == likeliest
    assert set(found.sequence_answers) == {answers[i] for i in likeliest}
    mass = {a: sum(problem.base[j] for j in range(problem.n) if answers[j] == a) for a in set(answers) - {-1}}
    tops = {a for a in mass if mass[a] >= max(mass.values()) * (1 - 1e-10)}
    assert set(found.answer_modes) == tops
    assert found.conflict == (not set(found.sequence_answers) & tops)
    sharp = compare_sharpening(preset("sharpening"), problem, answers)
    assert (found.sequence_reward, found.answer_reward) == (sharp.sequence_reward, sharp.answer_reward)


def test_the_conflict_costs_accuracy_only_when_sequences_are_sharpened() -> None:
    problem, answers = Problem([0.4, 0.2, 0.2, 0.2], [0, 1, 1, 1]), [0, 1, 1, 1]
    pairs = [compare_sharpening(Objective(alpha=alpha), problem, answers) for alpha in (1.0, 2.0, 4.0, 16.0)]
    sequence, answer = ([getattr(pair, name) for pair in pairs] for name in ("sequence_reward", "answer_reward"))
    assert sequence == sorted(sequence, reverse=True)
    assert answer == sorted(answer)
    assert sequence[0] == pytest.approx(answer[0]) == pytest.approx(pairs[0].base_reward) == pytest.approx(0.6)
    assert sequence[-1] < 1e-3
    assert answer[-1] > 1 - 2e-3
    assert sequence[1] == pytest.approx(0.12 / 0.28)
    assert answer[1] == pytest.approx(0.36 / 0.52)


def test_sharpening_answers_ends_where_the_vote_ends() -> None:
    found = mode_conflict(PROBLEM, ANSWERS)
    wins = winner_probabilities([0.3, 0.45, 0.15], 2001)  # of answers 0, 1, 2; outcome 4 has none
    assert found.answer_modes == (1,)
    assert found.conflict
    assert found.answer_reward == pytest.approx(float(wins @ [0.0, 1.0, 0.5]), abs=1e-9)
    assert found.sequence_reward == 0.0


def test_outcomes_that_the_base_cannot_produce_stay_out() -> None:
    problem = Problem([0.5, 0.0, 0.5], [0, 1, 1])
    assert answer_optimum(preset("tempered"), problem, [0, 1, 1]).tolist() == [0.5, 0.0, 0.5]
    assert mode_conflict(problem, [0, 1, -1]).answer_modes == (0,)
    assert mode_conflict(problem, [-1, -1, -1]).answer_modes == ()
    rare = Problem.from_log([0.0, -1e6, -1e6], [0, 1, 1])
    assert answer_optimum(Objective(alpha=0.0), rare, [0, 1, 1]).tolist() == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("objective", "answers", "word"),
    [
        (Objective(normalization="mean"), ANSWERS, "normalization"),
        (Objective(reference="policy"), ANSWERS, "reference"),
        (Objective(), [0, 1], "answers"),
        (Objective(), [0, 1, 1, 1, 1, -3], "answers"),
        (Objective(alpha=1e308), ANSWERS, "alpha"),
    ],
)
def test_refused_answers(objective: Objective, answers: list[int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        answer_optimum(objective, PROBLEM, answers)


def test_mode_conflict_refuses_bad_answers() -> None:
    with pytest.raises(InputError, match="answers"):
        mode_conflict(DEFAULT_PROBLEM, [0, 1])
