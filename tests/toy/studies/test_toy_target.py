"""Reaching p^alpha: how a table is judged, the intervals, and why effective alpha can stay near 1."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.cli.toy.target import as_json
from sharpen.objective import InputError
from sharpen.theory.core.problem import Problem
from sharpen.toy.studies.findings_core import Interval
from sharpen.toy.studies.target import (
    STUDIES,
    TUNING,
    Cell,
    Reached,
    config_of,
    exponent,
    judge,
    median_interval,
    study,
)
from sharpen.toy.studies.target_slope import ALPHA, gain, kinds_problem, row, slope, within_kinds

ROOT = Path(__file__).parents[3]
CELL = Cell("alpha", "alpha 2", 2.0, "rloo", {"alpha": (2.0,), "step_size": (0.1, 1.0)})


def table(missing: dict[float, np.ndarray], alpha: dict[float, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a sweep's table from KL(pi || pi*) and effective alpha by step size, shapes [S, K]."""
    columns: dict[str, list] = {name: [] for name in ("step_size", "seed", "step", "kl_optimum", "effective_alpha")}
    for size, kl_SK in missing.items():
        for seed, series in enumerate(kl_SK):
            for k, kl in enumerate(series):
                values = (size, seed, 10 * k, kl, alpha[size][seed, k])
                for name, value in zip(columns, values, strict=True):
                    columns[name].append(value)
    found = {name: np.array(values) for name, values in columns.items()}
    return found | {"group_size": np.full(len(found["step"]), 16)}


def test_a_run_that_passes_by_or_collapses_has_not_reached_the_target() -> None:
    seeds = TUNING + 4
    kl = np.tile([2.0, 0.015, 1.0, 0.015, 0.002], (seeds, 1))
    kl[TUNING + 1] = [2.0, 0.015, 0.015, 0.015, 1.0]  # leaves in the end
    slopes = np.full((seeds, 5), 2.05)
    slopes[TUNING + 2] = 3.0  # collapsed
    far = np.full((seeds, 5), 2.0)
    found = judge(CELL, table({0.1: far, 1.0: kl}, {0.1: slopes, 1.0: slopes}), within=0.01)
    assert found.step_size == 1.0
    assert found.share.mean == 0.5  # of four reported runs
    assert found.updates.low == 30.0  # the record after which none is off
    assert found.updates.mean == math.inf
    assert found.missing.mean == pytest.approx((0.001 * 3 + 0.5) / 4)


def test_the_step_size_is_chosen_on_tuning_seeds_only() -> None:
    """Step 0.1 is slower on the tuning seeds and faster on the others: it must not be chosen."""
    slow, fast = [1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    first = np.array([slow] * TUNING + [fast] * 8)
    second = np.array([fast] * TUNING + [slow] * 8)
    slopes = {size: np.full((TUNING + 8, 4), 2.0) for size in (0.1, 1.0)}
    found = judge(CELL, table({0.1: first, 1.0: second}, slopes))
    assert (found.step_size, found.updates) == (1.0, Interval(30.0, 30.0, 30.0))


def test_the_medians_interval_covers_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 64))
    covered = sum(low <= math.log(2.0) <= high for _, low, high in map(median_interval, draws))
    assert scipy.stats.binomtest(covered, 2000).proportion_ci(0.999).high > 0.95
    assert covered / 2000 < 0.985  # and no wider than order statistics must be
    assert median_interval(np.array([1.0, np.inf, np.inf, np.inf])).mean == math.inf


@pytest.mark.parametrize("size", [6, 20, 63, 64])
def test_the_medians_interval_is_scipys(size: int) -> None:
    draws = np.random.default_rng(size).exponential(size=size)
    ends = scipy.stats.quantile_test(draws, p=0.5).confidence_interval(0.95)
    assert median_interval(draws) == (np.median(draws), ends.low, ends.high)


def test_the_exponent_is_scipys_regression() -> None:
    values, updates = np.array([4.0, 8.0, 16.0, 32.0]), np.array([10.0, 50.0, 90.0, 400.0])
    rows = [
        Reached(CELL._replace(value=n), 1.0, 16, *(Interval(u, u, u),) * 4)  # type: ignore[arg-type]
        for n, u in zip(values, updates, strict=True)
    ]
    fit: Any = scipy.stats.linregress(np.log(values), np.log(updates))
    half = scipy.stats.t.ppf(0.975, 2) * fit.stderr
    found: Any = exponent(rows)
    np.testing.assert_allclose(found, (fit.slope, fit.slope - half, fit.slope + half))
    assert exponent(rows[:2]) is None


def test_every_study_is_a_sweep() -> None:
    for cells in STUDIES.values():
        for cell in cells():
            config = config_of(cell, 64)
            assert config.seeds in (1, TUNING + 64)
            assert config.every * 500 <= config.steps


# Why effective alpha stays near 1.


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_the_slope_is_the_gain_to_first_order_whatever_the_direction(seed: int) -> None:
    """Any small change of log pi moves the slope by the gain over (alpha - 1) Var, up to a second order."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(size=12)
    log_p -= np.logaddexp.reduce(log_p)
    direction = rng.normal(size=12)
    p = np.exp(log_p)
    variance = p @ (log_p - p @ log_p) ** 2
    errors = []
    for size in (1e-3, 1e-4):
        log_pi = log_p + size * direction
        log_pi -= np.logaddexp.reduce(log_pi)
        predicted = gain(log_pi, log_p, ALPHA) / ((ALPHA - 1) * variance)
        errors.append(abs(float(slope(log_pi, log_p, log_pi) - 1 - predicted)))
    assert errors[1] < 1e-6 * 100
    assert errors[1] < 0.05 * errors[0] + 1e-9  # falls with the square of the size


def test_a_policy_of_kinds_keeps_the_slope_within_them() -> None:
    problem, kinds = kinds_problem()
    log_pi = problem.log_base + kinds @ np.array([3.0, -1.0, 0.0, 2.0])
    log_pi -= np.logaddexp.reduce(log_pi)
    assert within_kinds(log_pi[None], kinds, problem.log_base)[0] == pytest.approx(1.0)
    power = 3 * problem.log_base - np.logaddexp.reduce(3 * problem.log_base)
    assert within_kinds(power[None], kinds, problem.log_base)[0] == pytest.approx(3.0)
    assert slope(power, problem.log_base, power) == pytest.approx(3.0)


def test_the_gain_is_what_the_gibbs_identity_leaves() -> None:
    """At p^alpha itself the whole of KL(p || p^alpha) is gained."""
    problem, kinds = kinds_problem()
    best = ALPHA * problem.log_base - np.logaddexp.reduce(ALPHA * problem.log_base)
    found = row("capacity", "all", np.stack([best, best]), problem, kinds)
    assert found.gained.mean == pytest.approx(1.0)
    assert found.effective_alpha.mean == pytest.approx(ALPHA)


def test_a_row_says_where_p_and_its_powers_are() -> None:
    """At p^(1 + e), e small, the slope is 1 + e, and so is what the gain foretells; the rest is by hand."""
    problem, small = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.0]), 1e-5
    log_pi = (1 + small) * problem.log_base
    log_pi -= np.logaddexp.reduce(log_pi)
    found = row("length", "three outcomes", np.stack([log_pi, log_pi]), problem)
    assert found.variance == pytest.approx(np.cov(problem.log_base, aweights=problem.base, ddof=0))
    assert found.effective_alpha.mean - 1 == pytest.approx(small, rel=1e-6)
    assert found.predicted.mean - 1 == pytest.approx(small, rel=1e-4)
    power = np.array([0.5, 0.3, 0.2]) ** 4
    assert (found.reward_base, found.reward_target) == pytest.approx((0.3, power[1] / power.sum()))


# The command.


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["luck"], "study"), (["alpha", "--seeds", "1"], "seeds"), (["alpha", "--within", "1"], "within")],
)
def test_bad_input(arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "target", *arguments, "--out", str(tmp_path / "none")])
    assert exited.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {word}")
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError):
        study("luck", tmp_path)


def test_a_study_runs_and_its_report_is_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fields = {"learner": ("rloo",), "steps": 40, "record_every": 4, "step_size": (1.0, 3.0), "alpha": (2.0,)}
    monkeypatch.setitem(STUDIES, "alpha", lambda: [Cell("alpha", "alpha 2", 2.0, "rloo", fields)])
    (found,) = study("alpha", tmp_path, seeds=4)
    assert found.share.mean == 1.0
    assert found.effective_alpha.mean == pytest.approx(2.0, rel=0.05)
    report = json.loads(json.dumps(as_json({"alpha": [found]}, 4, 0.01), allow_nan=False))
    (line,) = report["alpha"]["rows"]
    assert line["samples"][0] == 16 * line["updates"][0]
    assert (tmp_path / "alpha" / "alpha-2" / "sweep.parquet").is_file()


def test_the_page_shows_the_committed_run() -> None:
    report = json.loads((ROOT / "benchmarks/results/target.json").read_text())
    page = (ROOT / "docs/toy-target.md").read_text()
    assert report["seeds"] >= 64
    for line in report["slope"]:
        mean, low, high = line["effective_alpha"]
        found = (
            f"| {line['name']} | {line['variance']:.3f} | {line['gain'][0]:.3f} | {mean:.3f} [{low:.3f}, {high:.3f}]"
        )
        assert f"{found} | {line['predicted'][0]:.3f} |" in page
    for study_name in ("alpha", "outcomes", "length"):
        for line in report[study_name]["rows"]:
            middle, low, high = line["updates"]
            if middle is not None:
                assert f"{middle:g} [{low:g}, {high:g}]" in page
    learners = {line["name"]: line for line in report["learners"]["rows"]}
    for name, line in learners.items():
        if line["samples_per_update"]:
            assert f"`{name}`" in page
            assert f"{line['effective_alpha'][0]:.3f} ± " in page
