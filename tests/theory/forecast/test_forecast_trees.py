"""Known outcomes in a forecast: with all of them the exact numbers, with a part of them bounds that hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.stats import norm, ttest_1samp

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.certified import expected_reward
from sharpen.theory.audit.outcomes import OUTCOMES, Known, known_of, read_known
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import Problem
from sharpen.theory.forecast.report import forecast
from sharpen.theory.forecast.samples import Samples
from sharpen.theory.forecast.trees import certified


def problems(seed: int, count: int = 6) -> list[Problem]:
    rng = np.random.default_rng(seed)
    return [Problem(rng.dirichlet(np.full(30, 0.3)), rng.integers(0, 2, 30)) for _ in range(count)]


def truth(found: Sequence[Problem], alpha: float) -> np.ndarray:
    return np.array([one.base**alpha @ one.reward / np.sum(one.base**alpha) for one in found])


def known(one: Problem, least: float) -> Known:
    """Return the outcomes of at least so much mass, and the others as a frontier."""
    seen = one.base >= least
    return Known("", one.log_base[seen], one.reward[seen], one.length[seen], one.log_base[~seen], {})


@given(st.integers(0, 1000), st.sampled_from([0.001, 0.01, 0.05]), st.sampled_from([1.25, 2.0, 4.0]))
def test_bounds_hold(seed: int, least: float, alpha: float) -> None:
    found = problems(seed)
    base = np.array([one.base @ one.reward for one in found])
    row = certified([known(one, least) for one in found], alpha, [4], base, Resampler(6, 0))
    exact = truth(found, alpha)
    low, high = row["certain"]
    assert low - 1e-9 <= exact.mean() <= high + 1e-9
    if "gain" in row:
        assert row["low"] - 1e-9 <= exact.mean() <= row["high"] + 1e-9
        assert row["expected_reward"] == pytest.approx(exact.mean(), abs=0.05 + 1e-9)
        assert abs(row["gain"] - (exact - base).mean()) <= 0.05 + 1e-9
        some = row["pass@4_certain"]
        assert some[0] - 1e-9 <= (1 - (1 - exact) ** 4).mean() <= some[1] + 1e-9


def test_all_outcomes_give_the_exact_curve_and_the_verdict_reads_it() -> None:
    found, rng = problems(1, 12), np.random.default_rng(0)
    # Samples whose responses are not known, too few to tell of alpha = 8.
    drawn = []
    for one in found:
        at = rng.choice(30, size=10, p=one.base)
        drawn.append(Samples.of(one.log_base[at], one.reward[at]))
    plain = forecast(drawn, alphas=[8.0])
    assert plain["curve"][1]["expected_reward"] is None
    told = forecast(drawn, alphas=[8.0], trees=[known(one, 0.0) for one in found])
    row = told["curve"][1]
    assert row["expected_reward"] == pytest.approx(truth(found, 8.0).mean())
    assert row["certain"] == pytest.approx([truth(found, 8.0).mean()] * 2)
    assert "needs" not in row
    assert "nothing can be told" in plain["verdict"]
    assert "nothing can be told" not in told["verdict"]


def test_bounds_that_are_too_wide_are_no_number() -> None:
    found = problems(2)
    nothing = [Known("", np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(1), {}) for _ in found]
    row = certified(nothing, 2.0, [], np.zeros(6), Resampler(6, 0))
    assert row == {"certain": [0.0, 1.0]}
    with pytest.raises(InputError, match="outcomes"):
        certified(nothing[:-1], 2.0, [], np.zeros(6), Resampler(6, 0))


def test_tables_without_exponents_bound_every_exponent(tmp_path: Path) -> None:
    """Each row of a frontier with the fixed columns alone is a prefix, or a sum of several."""
    found = problems(3, 3)
    rows: dict[str, list[Any]] = {"prompt_id": [], "response": [], "logprob": [], "reward": [], "length": []}
    front: dict[str, list[Any]] = {"prompt_id": [], "depth": [], "logprob": []}
    for place, one in enumerate(found):
        for outcome in np.flatnonzero(one.base >= 0.02):
            values = (f"p{place}", str(outcome), one.log_base[outcome], one.reward[outcome], 1)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
        rest = one.base[one.base < 0.02]
        for mass in (rest[:3].sum(), *rest[3:]):  # three cut together
            for name, value in zip(front, (f"p{place}", 1, math.log(mass)), strict=True):
                front[name].append(value)
    parquet.write_table(pa.table(rows), tmp_path / OUTCOMES)
    parquet.write_table(pa.table(front), tmp_path / "frontier.parquet")
    read = read_known(tmp_path / OUTCOMES)
    for one, part in zip([found[2], found[0], found[1]], known_of(read, ["p2", "p0", "p1"]), strict=True):
        for alpha in (1.0, 2.0, 4.0):
            low, high = expected_reward(part.seen(alpha), Objective(alpha=alpha))
            assert low - 1e-9 <= truth([one], alpha)[0] <= high + 1e-9
    with pytest.raises(InputError, match="p9"):
        known_of(read, ["p9"])


def bounded(low: float, high: float) -> Known:
    """Return outcomes with these bounds of E[r] at alpha = 2: right^2, wrong^2 and unseen^2 are their parts of 1."""
    right, wrong, unseen = low, 1 - high, high - low
    scale = math.sqrt(right) + math.sqrt(wrong) + math.sqrt(unseen)
    log_p = np.log(np.sqrt([right, wrong, unseen])) - math.log(scale)
    return Known("", log_p[:2], np.array([1.0, 0.0]), np.ones(2), log_p[2:], {})


def test_gains_lie_between_those_of_the_lower_and_of_the_upper_ends() -> None:
    row = certified([bounded(0.4, 0.46)] * 8, 2.0, [1], np.full(8, 0.3), Resampler(8, 0))
    assert row["certain"] == pytest.approx([0.4, 0.46])
    assert row["gain"] == pytest.approx(0.13)
    assert [row["gain_low"], row["gain_high"]] == pytest.approx([0.1, 0.16])
    assert row["sure"]
    either = certified([bounded(0.4, 0.46)] * 8, 2.0, [], np.full(8, 0.43), Resampler(8, 0))
    assert [either["gain_low"], either["gain_high"]] == pytest.approx([-0.03, 0.03])
    assert not either["sure"]  # each end is sure, of another sign


def test_a_gain_is_sure_if_its_lower_end_is() -> None:
    """Lower ends whose 95 % interval leaves 0 out and whose 99 % interval does not; upper ones far from 0."""
    gains = 0.1 * norm.ppf((np.arange(10) + 0.5) / 10)
    gains += np.mean([np.ptp(ttest_1samp(gains, 0.0).confidence_interval(level)) / 2 for level in (0.95, 0.99)])
    known, resampler = [bounded(0.5, 0.58)] * 10, Resampler(10, 0)
    row = certified(known, 2.0, [], 0.5 - gains, resampler)
    assert row["gain_low"] > 0
    assert not row["sure"]
    assert certified(known, 2.0, [], 0.4 - gains, resampler)["sure"]


def test_what_was_cut_together_is_bounded_at_the_exponent() -> None:
    """A hundred children of .002 that were cut: at alpha = 2 they weigh at most their own squares, not .2 squared."""
    cut = {alpha: np.array([math.log(100 * 0.002**alpha) / alpha]) for alpha in (1.0, 2.0)}
    both = np.log([0.5, 0.3]), np.array([1.0, 0.0]), np.ones(2), np.zeros(0)
    row, loose = (
        certified([Known("", *both, sums)] * 6, 2.0, [], np.full(6, 0.5), Resampler(6, 0))["certain"]
        for sums in (cut, {1.0: cut[1.0]})
    )
    assert row == pytest.approx([0.25 / 0.3404, 0.2504 / 0.3404])
    assert loose == pytest.approx([0.25 / 0.38, 0.29 / 0.38])
