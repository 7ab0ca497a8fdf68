"""The words beside a simulation follow from stated criteria; and its start and end are always recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from sharpen.cli.main import main
from sharpen.objective import preset
from sharpen.theory.core.flow import limit
from sharpen.theory.core.problem import DEFAULT_PROBLEM
from sharpen.toy.dynamics.engine import recorded
from sharpen.toy.simulation.agreement import verdict
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.simulate import simulate
from sharpen.toy.simulation.watch import watch

TARGET, VERTEX = np.array([0.9, 0.1]), np.array([1.0, 0.0])


def track(*first: list[float]) -> np.ndarray:
    """Records of runs on two outcomes from the first one's probability in each, shape [K, S, 2]."""
    return np.log(np.stack([np.array(first), 1.0 - np.array(first)], axis=-1))


def seeds(mean: float, half: float, runs: int = 16) -> list[float]:
    """Numbers of this mean whose 95 % t-interval is mean +- half."""
    x = np.linspace(-1.0, 1.0, runs)
    quantile = float(scipy.stats.t.ppf(0.975, runs - 1))
    return (mean + half * x / (quantile * x.std(ddof=1) / np.sqrt(runs))).tolist()


# By how much wider 95 % t-intervals of sixteen runs are that hold for two outcomes together.
ALL_OF_TWO = float(scipy.stats.t.ppf(1 - 0.025 / 2, 15) / scipy.stats.t.ppf(0.975, 15))


@pytest.mark.parametrize(
    ("halfway", "end", "word"),
    [
        (seeds(0.85, 0.01), seeds(0.8876, 0.0051), "approaches"),  # "agrees" was once said of this, as .0124 < .1
        (seeds(0.8880, 0.0051), seeds(0.8876, 0.0051), "differs"),
        (seeds(0.85, 0.002), seeds(0.8970, 0.0028), "agrees"),  # Bonferroni over two outcomes: .0028 becomes .0032
        (seeds(0.85, 0.002), seeds(0.8960, 0.0028), "approaches"),
        (seeds(0.85, 0.01), seeds(0.9 - 0.99 * 0.0051 * ALL_OF_TWO, 0.0051), "agrees"),
        (seeds(0.85, 0.01), seeds(0.9 - 1.01 * 0.0051 * ALL_OF_TWO, 0.0051), "approaches"),
        ([0.5, 0.9] * 8, [0.4] + [0.92] * 15, "unclear"),
        ([0.6], [0.899], "unclear"),
        ([0.6], [0.9 - 1e-7], "agrees"),
        ([0.5, 0.6], [0.9 - 1e-7, 0.9 - 1e-8], "agrees"),
    ],
)
def test_sampled_runs(halfway: list[float], end: list[float], word: str) -> None:
    start = [0.4] * len(end)
    assert verdict(track(start, halfway, end), TARGET, None, exact=False) == word


@pytest.mark.parametrize(
    ("halfway", "end", "word"),
    [
        (0.9, 1.0 - 9e-7, "agrees"),
        (0.9, 1.0 - 2e-6, "approaches"),
        (0.990, 0.995, "approaches"),  # like 1/t
        (0.990, 0.992, "differs"),
        (0.5, 0.5, "differs"),
    ],
)
def test_exact_runs(halfway: float, end: float, word: str) -> None:
    assert verdict(track([0.3], [halfway], [end]), VERTEX, None, exact=True) == word


def test_on_a_face_only_the_mass_off_it_counts() -> None:
    log_pi = np.log([[[0.4, 0.3, 0.3]], [[0.2, 0.7, 0.1]], [[0.1, 0.9 - 1e-9, 1e-9]]])
    target, face = np.array([0.6, 0.4, 0.0]), np.array([True, True, False])
    assert verdict(log_pi, target, face, exact=True) == "agrees"
    assert verdict(log_pi, target, None, exact=True) == "differs"


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Runs around the target are said to differ from it in one case of twenty, for all outcomes together."""
    rng = np.random.default_rng(0)
    target = np.array([0.4, 0.3, 0.3])
    differ = 0
    for _ in range(2000):
        noise = rng.normal(scale=0.02, size=(8, 3))
        pi = target + noise - noise.mean(axis=1, keepdims=True)
        differ += verdict(np.log(np.stack([pi, pi])), target, None, exact=False) != "agrees"
    assert 0.02 < differ / 2000 < 0.06


def test_a_short_run_is_said_to_differ_or_to_approach(tmp_path: Path) -> None:
    config = SimulateConfig(
        objectives={"task-reward": preset("task-reward")}, steps=40, seeds=4, learners=("natural", "rloo")
    )
    said = {row["verdict"] for row in simulate(config, tmp_path / "run")["tracks"]}
    assert said <= {"approaches", "differs"}


@pytest.mark.parametrize(("steps", "every"), [(9, 10), (25, 10)])
def test_start_and_end_are_always_recorded(steps: int, every: int, tmp_path: Path) -> None:
    one = {"tempered": preset("tempered")}
    config = SimulateConfig(objectives=one, steps=steps, record_every=every, seeds=2, learners=("natural", "rloo"))
    simulate(config, tmp_path / "run")
    with np.load(tmp_path / "run" / "trajectory.npz") as stored:
        assert stored["updates"].tolist() == recorded(steps, every)
        assert stored["updates"][0] == 0
        assert stored["updates"][-1] == steps
        path = stored["log_policy/tempered/natural"][:, 0]
        # The natural gradient in closed form: log pi = (2 - 0.9^k) log p, up to a constant.
        for k, log_pi in zip(stored["updates"].tolist(), path, strict=True):
            expected = (2.0 - 0.9**k) * DEFAULT_PROBLEM.log_base
            np.testing.assert_allclose(np.exp(log_pi), np.exp(expected) / np.exp(expected).sum(), rtol=1e-12)
    whole = SimulateConfig(objectives=one, steps=steps, record_every=1, seeds=2, learners=("rloo",))
    simulate(whole, tmp_path / "whole")
    with (
        np.load(tmp_path / "run" / "trajectory.npz") as some,
        np.load(tmp_path / "whole" / "trajectory.npz") as every_one,
    ):
        name = "log_policy/tempered/rloo"
        np.testing.assert_allclose(some[name], every_one[name][recorded(steps, every)], rtol=1e-10)


def test_fewer_steps_than_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main(["toy", "simulate", "--steps", "9", "--learner", "natural", "--preset", "tempered", "--out", str(out)])
        assert stop.value.code == 0
    assert "finished" in capsys.readouterr().err
    (row,) = json.loads((out / "summary.json").read_text())["tracks"]
    start, end = DEFAULT_PROBLEM.base, limit_of_tempered()
    assert np.abs(np.array(row["policy"]) - end).max() < 0.5 * np.abs(start - end).max()  # it moved
    assert (out / "figure.png").is_file()


def limit_of_tempered() -> np.ndarray:
    return limit(preset("tempered"), DEFAULT_PROBLEM, DEFAULT_PROBLEM.base)


def test_a_watched_run_ends_where_it_was_told_to() -> None:
    frames = list(
        watch(SimulateConfig(objectives={"t": preset("tempered")}, steps=25, seeds=2, learners=("natural",)), 10)
    )
    assert [frame.updates for frame in frames] == [0, 10, 20, 25]
    assert {frame.of for frame in frames} == {25}
