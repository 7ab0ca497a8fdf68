"""One rule for ties, against a quadratic oracle, and every command and function on bases that are nearly tied."""

from __future__ import annotations

import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.figures.theory.fixed_points import marked_outcomes
from sharpen.objective import Objective, preset
from sharpen.theory.core.flow import limit
from sharpen.theory.core.goals import goals_of
from sharpen.theory.core.problem import Problem, parse_problem
from sharpen.theory.core.ties import TIE_TOLERANCE, leaders, tie_groups, ties, top_face
from sharpen.theory.instability.families import stationary_families
from sharpen.theory.instability.phase import basin_of, portrait
from sharpen.theory.instability.selfsharpening import iterate
from sharpen.theory.instability.stationary import fixed_points
from sharpen.theory.optima.best_of_n import log_best_of_n
from sharpen.theory.optima.frontier import hull
from sharpen.theory.optima.limits import limits
from sharpen.theory.optima.marginal import answer_optimum, mode_conflict
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.optima.sensitivity import flip_radius, perturbed_policy, response
from sharpen.toy.dynamics.observe import observer
from sharpen.toy.problems.setting import setting

LEVEL = st.one_of(st.integers(-4, 4).map(float), st.integers(-30, 30).map(lambda i: 1.0 + i * 1e-13))
SCALE = st.sampled_from([0.0, 0.1, 1.0, 10.0, 1e6])


def by_definition(level: list[float], scale: list[float]) -> list[list[int]]:
    """Groups by the rule as it is written: the highest of those left (the first of equals) takes all tied with it."""
    left, groups = list(range(len(level))), []
    while left:
        lead = max(left, key=lambda i: (level[i], -i))
        group = [i for i in left if level[i] >= level[lead] - TIE_TOLERANCE * max(scale[i], scale[lead])]
        groups.append(group)
        left = [i for i in left if i not in group]
    return groups


@settings(max_examples=300)
@given(rows=st.lists(st.tuples(LEVEL, SCALE), min_size=1, max_size=8))
def test_groups_by_definition(rows: list[tuple[float, float]]) -> None:
    level, scale = (np.array(column) for column in zip(*rows, strict=True))
    expected = by_definition(level.tolist(), scale.tolist())
    assert [group.tolist() for group in ties(level, scale)] == expected
    order, _ = tie_groups(level, scale)
    assert sorted(order.tolist()) == list(range(level.size))
    assert np.flatnonzero(top_face(level, scale)).tolist() == expected[0]
    snapped = leaders(level, scale)
    assert all(snapped[group].tolist() == [level[group].max()] * len(group) for group in expected)


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(LEVEL, SCALE), min_size=6, max_size=6))
def test_jax_passes_through_the_same_lines(rows: list[tuple[float, float]]) -> None:
    level, scale = (np.array(column).reshape(2, 3) for column in zip(*rows, strict=True))
    with jax.enable_x64():
        there = np.asarray(top_face(jnp.asarray(level), jnp.asarray(scale)))
    for i in range(2):
        assert np.flatnonzero(there[i]).tolist() == by_definition(level[i].tolist(), scale[i].tolist())[0]
    np.testing.assert_array_equal(there, top_face(level, scale))


def test_many_levels_of_which_one_is_coarse() -> None:
    level = np.append(np.linspace(0.0, 1.0, 100_001), -1e12)
    order, starts = tie_groups(level, np.abs(level))
    assert starts.size == level.size == np.unique(order).size


def near_tie(gap: float) -> Problem:
    """Two outcomes whose log p differ by ``gap`` nats, and a third one a million nats below that must not blur them."""
    first = math.log(0.5)
    return Problem.from_log([first + gap / 2, first - gap / 2, -1e6], [1.0, 0.0, 0.0])


@pytest.mark.parametrize(("gap", "expected"), [(4e-7, (0,)), (1e-11, (0,)), (1e-14, (0, 1)), (0.0, (0, 1))])
def test_every_function_agrees(gap: float, expected: tuple[int, ...]) -> None:
    problem = near_tie(gap)
    sharp, moving = preset("sharpening"), preset("tempered", reference="policy")

    def support(policy: Any) -> tuple[int, ...]:
        return tuple(np.flatnonzero(np.asarray(policy) > 0.0).tolist())

    assert optimum(sharp, problem).support == expected
    points = fixed_points(sharp, problem).points
    assert points[0].support == expected
    assert points[0].continuum == (len(expected) > 1)
    families = stationary_families(sharp, problem)
    assert sum(family.count for family in families) == len(points)
    assert families[0].largest == len(expected)
    assert support(limit(sharp, problem, problem.base)) == expected
    assert support(np.exp(limits(Objective(alpha=2.0), problem)["alpha"])) == expected
    assert optimum(moving, problem).support == expected
    assert support(np.exp(iterate(problem.log_base, 2.0, 200))) == expected
    assert mode_conflict(problem, [0, 1, 2]).sequence_modes == expected
    assert mode_conflict(problem, [0, 1, 2]).answer_modes == expected
    assert support(answer_optimum(sharp, problem, [0, 1, 2])) == expected
    assert portrait(sharp, problem).basins[0].support == expected
    starts = problem.base[None] * [1.0, 1.0, 0.0] + [0.0, 0.0, 1e-20]
    assert basin_of(portrait(moving, problem), starts)[0] == (0 if expected == (0,) else -1)
    change = log_best_of_n(problem, 1e3) - problem.log_base  # the same for all of a tie class
    assert (change[0] == change[1]) == (len(expected) > 1)
    found = response(sharp, problem, "likelihood")
    assert support(found.policy) == expected
    assert support(perturbed_policy(found, np.zeros((1, 3)))[0]) == expected
    assert (flip_radius(found) == 0.0) == (len(expected) > 1)
    at = setting(sharp, problem, 0.1)
    with jax.enable_x64():
        face = float(observer(())(at, jnp.asarray(problem.log_base)[None], None)["face_mass"])  # type: ignore[arg-type]
    assert face == pytest.approx(float(problem.base[list(expected)].sum()), abs=1e-9)


@pytest.mark.parametrize(("gap", "expected"), [(1e-11, [0]), (1e-14, [0, 1]), (0.0, [0, 1])])
@pytest.mark.parametrize("w_r", [0.0, 1e-30])
def test_leaders_in_the_score_tie_by_the_size_of_the_score(gap: float, expected: list[int], w_r: float) -> None:
    problem = near_tie(gap)
    goals = goals_of(Objective(alpha=2.0), problem)
    assert goals.face(problem, goals.combined(w_r, 1.0), w_r, 1.0).tolist() == expected


@pytest.mark.parametrize(("gap", "expected"), [(1e-9, (1,)), (1e-13, (0, 1)), (0.0, (0, 1))])
def test_rewards_tie_by_the_largest_of_them(gap: float, expected: tuple[int, ...]) -> None:
    problem = Problem([0.5, 0.25, 0.25], [1.0 - gap, 1.0, 0.0])
    task = preset("task-reward")
    assert optimum(task, problem).support == expected
    assert fixed_points(task, problem).points[0].support == expected
    assert limit(task, problem, problem.base).nonzero()[0].tolist() == list(expected)
    assert np.exp(limits(Objective(beta_inv=1.0), problem)["beta_inv"]).nonzero()[0].tolist() == list(expected)
    assert marked_outcomes(problem)[0].tolist() == list(expected)
    assert hull(Objective(), problem).outcomes.tolist()[0] == expected[0]
    at = setting(task, problem, 0.1)
    with jax.enable_x64():
        seen = observer((1,))(at, jnp.asarray(problem.log_base)[None], None)  # type: ignore[arg-type]
    assert float(seen["pass@1"]) == pytest.approx(float(problem.base[list(expected)].sum()), abs=1e-12)
    assert float(seen["face_mass"]) == pytest.approx(float(problem.base[list(expected)].sum()), abs=1e-12)


@pytest.mark.parametrize(("gap", "expected"), [(2e-7, [0]), (1e-14, [0, 1])])
def test_one_command_tells_one_story(gap: float, expected: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ",".join(repr(x) for x in near_tie(gap).log_base.tolist())

    def report(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            main(["theory", *arguments, f"--base=log:{numbers}", "--reward", "indices:0", "--json"])
        assert stop.value.code == 0
        return json.loads(capsys.readouterr().out)

    points = report("fixed-points", "--preset", "sharpening")
    assert points["optimum"]["support"] == points["fixed_points"][0]["support"] == expected
    assert points["optimum"]["expected_reward"] == pytest.approx(points["fixed_points"][0]["expected_reward"])
    best = report("optimum", "--preset", "sharpening")["optimum"]
    assert best["support_size"] == len(expected)
    assert best["expected_reward"] == pytest.approx(points["optimum"]["expected_reward"])
    basin = report("phase", "--preset", "sharpening", "--resolution", "2")["basins"][0]
    assert basin["support"] == expected


def test_a_problem_read_from_text_is_the_one_above() -> None:
    problem = near_tie(2e-7)
    text = ",".join(repr(x) for x in problem.log_base.tolist())
    assert parse_problem(f"log:{text}", "indices:0").log_base.tolist() == pytest.approx(problem.log_base.tolist())
