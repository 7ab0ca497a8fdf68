"""Intervals within what can be, p-values that the design supports, and their coverage where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import t

from sharpen.paper_repro.analysis.simulated import Design, coverage, draw, power, seed_scale, shift_for
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


def test_a_family_without_effects_is_seldom_taken_for_one() -> None:
    assert power(Design(problems=32), 0.0, 4, 0.05, 120, 2) <= 0.1
    assert power(Design(problems=32), 0.3, 4, 0.05, 40, 2) >= 0.9
