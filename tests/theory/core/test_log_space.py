"""Bases whose log-probabilities span thousands of nats, against mpmath with exponents of any size."""

from __future__ import annotations

import json
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.objective import Objective, preset
from sharpen.theory.core.problem import Problem, parse_problem
from sharpen.theory.instability.phase import portrait
from sharpen.theory.instability.stationary import fixed_points
from sharpen.theory.optima.best_of_n import log_best_of_n
from sharpen.theory.optima.marginal import log_answer_optimum, mode_conflict
from sharpen.theory.optima.optimum import optimum

Exact = Any  # mpmath.mpf: the package has no types
DIGITS = 40
REWARD = st.sampled_from([0.0, 0.5, 1.0])


@st.composite
def extreme_problems(draw: st.DrawFn, spread: float = 5000.0) -> Problem:
    """2 to 5 outcomes, log p within thousands of nats."""
    n = draw(st.integers(2, 5))
    log_p = np.array(draw(st.lists(st.floats(-spread, 0.0), min_size=n, max_size=n)))
    reward = draw(st.lists(REWARD, min_size=n, max_size=n))
    return Problem.from_log(log_p - np.logaddexp.reduce(log_p), reward)


def conditioned(log_weight: list[Exact]) -> list[Exact]:
    """Logs of weights that sum to 1, in mpmath, whose exponents do not underflow."""
    total = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in log_weight))
    return [x - total for x in log_weight]


def close(found: np.ndarray, exact: list[Exact]) -> None:
    expected = np.array([float(x) for x in exact])
    size = 1.0 + np.abs(expected[np.isfinite(expected)]).max()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * size)


@settings(max_examples=60, deadline=None)
@given(problem=extreme_problems(), alpha=st.sampled_from([0.5, 1.0, 2.0, 30.0]), b=st.sampled_from([0.0, 1.0, 1e3]))
def test_gibbs_optima(problem: Problem, alpha: float, b: float) -> None:
    best = optimum(Objective(alpha=alpha, beta_inv=b), problem)
    with mpmath.workdps(DIGITS):
        pairs = zip(problem.log_base.tolist(), problem.reward.tolist(), strict=True)
        exact = conditioned([mpmath.mpf(alpha) * mpmath.mpf(x) + mpmath.mpf(b) * mpmath.mpf(r) for x, r in pairs])
        reward = float(mpmath.fsum(mpmath.exp(x) * r for x, r in zip(exact, problem.reward.tolist(), strict=True)))
    close(best.log_probabilities, exact)
    assert best.expected_reward == pytest.approx(reward, rel=1e-11, abs=1e-300)


@settings(max_examples=60, deadline=None)
@given(problem=extreme_problems())
def test_faces_of_a_task_reward(problem: Problem) -> None:
    """One fixed point for each reward that occurs: the base conditioned on the outcomes that have it."""
    points = fixed_points(preset("task-reward"), problem).points
    assert len(points) == np.unique(problem.reward).size
    for point in points:
        (level,) = np.unique(problem.reward[list(point.support)])
        assert point.support == tuple(np.flatnonzero(problem.reward == level))
        with mpmath.workdps(DIGITS):
            exact = conditioned([mpmath.mpf(problem.log_base[i]) for i in point.support])
            expected = [float(mpmath.exp(x)) for x in exact]
        np.testing.assert_allclose(point.probabilities[list(point.support)], expected, rtol=1e-9)
        assert point.probabilities.sum() == pytest.approx(1.0, rel=1e-12)
        assert point.expected_reward == pytest.approx(level, rel=1e-12)
    assert points[0].support == optimum(preset("task-reward"), problem).support


@settings(max_examples=40, deadline=None)
@given(problem=extreme_problems(), data=st.data())
def test_answers_whose_mass_underflows(problem: Problem, data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.integers(0, 2), min_size=problem.n, max_size=problem.n))
    found = log_answer_optimum(Objective(alpha=3.0), problem, answers)
    with mpmath.workdps(DIGITS):
        log_p = [mpmath.mpf(x) for x in problem.log_base.tolist()]
        mass = {a: mpmath.fsum(mpmath.exp(x) for x, b in zip(log_p, answers, strict=True) if a == b) for a in answers}
        exact = conditioned([x + 2 * mpmath.log(mass[a]) for x, a in zip(log_p, answers, strict=True)])
        likeliest = max(mass.values())
        modes = {a for a, m in mass.items() if mpmath.log(likeliest) - mpmath.log(m) < mpmath.mpf("1e-9")}
    close(found, exact)
    assert set(mode_conflict(problem, answers).answer_modes) == modes


@settings(max_examples=20, deadline=None)
@given(problem=extreme_problems(1500.0), count=st.sampled_from([1.0, 1.5, 7.0, 1e4]))
def test_best_of_n_law(problem: Problem, count: float) -> None:
    found = log_best_of_n(problem, count)
    with mpmath.workdps(800):  # F near 1 less what lies e^-1500 above it
        p = [mpmath.exp(mpmath.mpf(x)) for x in problem.log_base.tolist()]
        total = mpmath.fsum(p)
        p = [x / total for x in p]
        exact = []
        for x in p:
            tied = [abs(mpmath.log(x) - mpmath.log(y)) < mpmath.mpf("1e-9") for y in p]
            mine = mpmath.fsum(y for y, t in zip(p, tied, strict=True) if t)
            below = mpmath.fsum(y for y, t in zip(p, tied, strict=True) if not t and y < x)
            exact.append(mpmath.log(x / mine * ((below + mine) ** count - below**count)))
    close(found, exact)


def test_the_correct_set_may_underflow(capsys: pytest.CaptureFixture[str]) -> None:
    problem = parse_problem("log:0,-1000,-1001", "indices:1,2")
    first = fixed_points(preset("task-reward"), problem).points[0]
    assert first.kind == "neutral"
    np.testing.assert_allclose(first.probabilities, [0.0, 0.7310585786300049, 0.2689414213699951], rtol=1e-12)
    assert first.expected_reward == pytest.approx(1.0)
    arguments = ["--preset", "task-reward", "--base", "log:0,-1000,-1001", "--reward", "indices:1,2"]
    with pytest.raises(SystemExit) as stop:
        main(["theory", "fixed-points", *arguments])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "1:0.731 2:0.269" in shown
    assert "nan" not in shown
    end = portrait(preset("task-reward"), problem).basins[0].end
    np.testing.assert_allclose(end, first.probabilities, rtol=1e-12)
    with pytest.raises(SystemExit) as stop:
        main(["theory", "phase", *arguments, "--json"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["basins"][0]["end"] == pytest.approx(first.probabilities.tolist())


def test_vertices_are_chosen_by_likelihood_where_it_underflows() -> None:
    log_p = np.concatenate([[0.0], -1000.0 - np.arange(20.0)[::-1]])
    found = fixed_points(preset("tempered", reference="policy"), Problem.from_log(log_p, np.zeros(21)), limit=4)
    vertices = [point.support[0] for point in found.points if len(point.support) == 1]
    assert sorted(vertices) == [0, 19, 20]
