"""Intervals within what can be, p-values that the design supports, and their coverage where the truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit
from scipy.stats import t

from sharpen.paper_repro.analysis.simulated import Design, coverage, draw, power, rules_sd, seed_scale, shift_for
from sharpen.paper_repro.intervals.bounded import (
    LINE,
    NEGATIVE,
    POSITIVE,
    UNIT,
    bounded_interval,
    bounds_of,
    floor_of,
    of_difference,
)

Scale = Callable[[Any], Any]
BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "results" / "paper_statistics.json"


@given(arrays(float, st.tuples(st.integers(1, 9), st.integers(2, 12)), elements=st.floats(0, 1)))
def test_no_interval_leaves_the_possible(x: np.ndarray) -> None:
    for values, bounds in ((x, UNIT), (40 * x, POSITIVE), (-40 * x, NEGATIVE), (x - x[::-1], of_difference(UNIT))):
        found = bounded_interval(values, bounds)
        assert bounds[0] <= found.low <= found.mean + 1e-12
        assert found.mean - 1e-12 <= found.high <= bounds[1]
        assert found.p is not None
        assert found.p >= floor_of(len(x))


def test_without_bounds_it_is_students_interval_of_the_seed_means() -> None:
    """Where problems are alike, what differs are the seeds: SciPy's interval of their means is the oracle."""
    means = np.array([0.31, 0.42, 0.38, 0.35, 0.4])
    found = bounded_interval(np.repeat(means[:, None], 50, axis=1), LINE, null=0.3)
    low, high = t.interval(0.95, 4, loc=means.mean(), scale=means.std(ddof=1) / np.sqrt(5))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_problems_alone_leave_the_seeds_degrees_of_freedom() -> None:
    """Every seed answers alike: the error is that of the problems' mean, Student's t still that of three seeds."""
    problems = np.array([0.1, 0.7, 0.3, 0.8, 0.5, 0.2])
    found = bounded_interval(np.tile(problems, (3, 1)), LINE)
    low, high = t.interval(0.95, 2, loc=problems.mean(), scale=problems.std(ddof=1) / np.sqrt(6))
    assert (found.low, found.high) == pytest.approx((low, high))


MEANS = np.array([0.31, 0.42, 0.38, 0.35, 0.4])


@pytest.mark.parametrize(
    ("seeds", "bounds", "to_line", "back", "slope"),
    [
        (MEANS, UNIT, logit, expit, lambda m: 1 / (m * (1 - m))),
        (40 * MEANS, POSITIVE, np.log, np.exp, lambda m: 1 / m),
        (-40 * MEANS, NEGATIVE, lambda x: -np.log(-x), lambda y: -np.exp(-y), lambda m: -1 / m),
        (2 * MEANS - 1, of_difference(UNIT), np.arctanh, np.tanh, lambda m: 1 / (1 - m**2)),
    ],
)
def test_between_bounds_it_is_students_interval_on_a_scale_without_them(
    seeds: np.ndarray, bounds: tuple[float, float], to_line: Scale, back: Scale, slope: Scale
) -> None:
    """The delta method by hand: logit, log and artanh, for seeds that are alike over problems."""
    found = bounded_interval(np.repeat(seeds[:, None], 50, axis=1), bounds)
    mean, error = seeds.mean(), seeds.std(ddof=1) / np.sqrt(5)
    half = t.ppf(0.975, 4) * error * slope(mean)
    assert (found.low, found.high) == pytest.approx((back(to_line(mean) - half), back(to_line(mean) + half)))


def test_near_a_bound_it_is_students_interval_cut_there() -> None:
    seeds = np.array([0.0, 0.0, 0.1, 0.3])
    found = bounded_interval(np.repeat(seeds[:, None], 20, axis=1), UNIT)
    assert found.low == 0.0
    assert found.high == pytest.approx(t.interval(0.95, 3, seeds.mean(), seeds.std(ddof=1) / 2)[1])


def test_no_p_value_is_smaller_than_its_seeds_support() -> None:
    sure = 0.5 + 1e-4 * np.random.default_rng(0).standard_normal((3, 200))
    assert bounded_interval(sure, of_difference(UNIT)).p == 0.25
    assert bounded_interval(np.full((8, 20), 0.5), of_difference(UNIT)).p == 2 / 2**8


def test_all_right_is_no_certainty() -> None:
    found = bounded_interval(np.ones((8, 128)), UNIT)
    assert found.high == 1.0
    assert 0.95 < found.low < 0.99


def test_a_measure_has_the_bounds_of_what_it_counts() -> None:
    assert bounds_of("maj@4") == UNIT
    assert bounds_of("base_logprob") == NEGATIVE


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_coverage_at_the_studys_own_sizes(shift: float) -> None:
    found = coverage(Design(), 300, 5, shift)
    assert min(found["mean"], found["difference"]) >= 0.92  # 300 times: two standard errors below .95
    assert found["outside"] == 0


def test_the_committed_simulation_covers_in_every_design() -> None:
    rows = json.loads(BENCHMARK.read_text(encoding="utf-8"))["rows"]
    assert {row["seeds"] for row in rows} >= {3, 5, 8}
    assert min(min(row["mean"], row["difference"]) for row in rows) >= 0.93
    assert max(row["outside"] for row in rows) == 0


def test_the_simulated_study_has_the_effect_and_the_spread_that_it_names() -> None:
    """Averages of many draws: the two solved numbers mean what they say."""
    rng = np.random.default_rng(3)
    design = Design(seeds=400, problems=400, samples=8)
    arm, control = draw(design, rng, shift_for(0.1, design))
    assert (arm - control).mean() == pytest.approx(0.1, abs=0.02)
    assert control.mean(axis=1).std() == pytest.approx(design.seed_sd, rel=0.25)
    assert seed_scale(design) > design.seed_sd


def test_the_spread_of_a_run_is_that_of_seeds_and_samples() -> None:
    """One in eight problems is never solved, 24 of 128 at 1/17, 40 at 1/3, 48 at 4/5."""
    counted = (24 * 16 / 17**2 + 40 * 2 / 9 + 48 * 4 / 25) / 128
    found = rules_sd(Design(problems=128, samples=4, seed_sd=0.02))
    assert found == pytest.approx(np.sqrt(0.02**2 + counted / (128 * 4)))


def test_a_family_without_effects_is_seldom_taken_for_one() -> None:
    assert power(Design(problems=32), 0.0, 4, 0.05, 120, 2) <= 0.1
    assert power(Design(problems=32), 0.3, 4, 0.05, 40, 2) >= 0.9
