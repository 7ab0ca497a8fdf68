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

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.certified import Seen, expected_reward
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import Problem
from sharpen.theory.forecast.report import forecast
from sharpen.theory.forecast.samples import Samples
from sharpen.theory.forecast.tables import read_trees
from sharpen.theory.forecast.trees import certified


def problems(seed: int, count: int = 6) -> list[Problem]:
    rng = np.random.default_rng(seed)
    return [Problem(rng.dirichlet(np.full(30, 0.3)), rng.integers(0, 2, 30)) for _ in range(count)]


def truth(found: Sequence[Problem], alpha: float) -> np.ndarray:
    return np.array([one.base**alpha @ one.reward / np.sum(one.base**alpha) for one in found])


def known(one: Problem, least: float) -> Seen:
    """Return the outcomes of at least so much mass, and the others as a frontier."""
    seen = one.base >= least
    return Seen.of(one.log_base[seen], one.reward[seen], one.log_base[~seen])


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
    nothing = [Seen.of([], [], [0.0]) for _ in found]
    row = certified(nothing, 2.0, [], np.zeros(6), Resampler(6, 0))
    assert row == {"certain": [0.0, 1.0]}
    with pytest.raises(InputError, match="outcomes"):
        certified(nothing[:-1], 2.0, [], np.zeros(6), Resampler(6, 0))


def test_a_folder_of_outcomes_is_read_and_what_is_cut_together_bounds_every_exponent(tmp_path: Path) -> None:
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
    parquet.write_table(pa.table(rows), tmp_path / "outcomes.parquet")
    parquet.write_table(pa.table(front), tmp_path / "frontier.parquet")
    names = ["p2", "p0", "p1"]
    seen = read_trees(tmp_path, names)
    for one, part in zip([found[2], found[0], found[1]], seen, strict=True):
        for alpha in (1.0, 2.0, 4.0):
            low, high = expected_reward(part, Objective(alpha=alpha))
            assert low - 1e-9 <= truth([one], alpha)[0] <= high + 1e-9
    with pytest.raises(InputError, match="of p9 it has none"):
        read_trees(tmp_path, ["p9"])
    with pytest.raises(InputError, match="outcomes"):
        read_trees(tmp_path / "nowhere", [])
    parquet.write_table(pa.table({"prompt_id": ["p0"], "depth": [1]}), tmp_path / "frontier.parquet")
    with pytest.raises(InputError, match="logprob"):
        read_trees(tmp_path, ["p0"])
