"""``sharpen toy simulate --audit``: paths whose split is known, and the estimator on samples of a simulated policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpen.cli.main import main
from sharpen.objective import InputError
from sharpen.theory.audit.report import audit_split
from sharpen.theory.audit.sampled import Pooled, Scored
from sharpen.theory.core.problem import Problem
from sharpen.toy.simulation.audit import audit_run, audit_tracks

BASE, LENGTH = "0.30,0.25,0.20,0.15,0.10", "1,3,2,4,2"


def simulated(out: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(
            [
                "toy",
                "simulate",
                "--base",
                BASE,
                "--length",
                LENGTH,
                "--normalization",
                "mean",
                "--out",
                str(out),
                *arguments,
            ]
        )
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The audit of all four regimes on one problem."""
    out = tmp_path_factory.mktemp("toy") / "run"
    with pytest.raises(SystemExit) as end:
        main(["toy", "simulate", "--learner", "natural,softmax", "--steps", "300", "--out", str(out), "--audit"])
    assert not end.value.code
    found = json.loads((out / "audit.json").read_text())
    assert found == audit_run(out)
    return found


def of(rows: list[dict[str, Any]], objective: str, learner: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["objective"], row["learner"]) == (objective, learner)]


@pytest.mark.parametrize(("objective", "family"), [("task-reward", "reward"), ("tempered", "sharpening")])
def test_natural_gradients_stay_on_the_path_of_their_family(
    rows: list[dict[str, Any]], objective: str, family: str
) -> None:
    path = of(rows, objective, "natural")
    assert [row["update"] for row in (path[0], path[-1])] == [0, 300]
    assert path[0]["kl"] == pytest.approx(0, abs=1e-12)
    for row in path[1:]:
        assert row["kl"] > 1e-4
        assert row["explained"][family] == pytest.approx(row["kl"], rel=1e-5)
        assert row["rest"] == pytest.approx(0, abs=1e-6)
        assert sum(row["shapley"].values()) == pytest.approx(row["explained"]["all"])


def test_a_tempered_run_reaches_its_exponent(rows: list[dict[str, Any]]) -> None:
    alphas = [row["alpha"] for row in of(rows, "tempered", "natural")]
    assert alphas == sorted(alphas)
    assert alphas[0] == pytest.approx(1, abs=1e-6)
    assert alphas[-1] == pytest.approx(2, abs=1e-2)


def test_the_softmax_gradient_leaves_the_path_of_reward_tilts(rows: list[dict[str, Any]]) -> None:
    last = of(rows, "task-reward", "softmax")[-1]
    assert last["explained"]["reward"] < 0.95 * last["kl"]


def test_samples_of_a_simulated_policy_have_its_split(rows: list[dict[str, Any]]) -> None:
    out_of = of(rows, "task-reward", "softmax")[-1]
    rng = np.random.default_rng(0)
    # The default problem, and the policy that the exact audit saw, known by its own record.
    base, reward = np.array([0.40, 0.25, 0.15, 0.12, 0.08]), np.array([0, 1, 0, 1, 0])
    policy = np.array(out_of["policy"])
    logs = np.log(base), np.log(policy)

    def scored(p: np.ndarray) -> Scored:
        at = rng.choice(5, size=200, p=p)
        return Scored.of(logs[0][at], logs[1][at], reward[at], np.ones(200))

    found = audit_split([Pooled.of(scored(base), scored(policy)) for _ in range(30)])
    for name in ("sharpening", "reward", "all"):
        assert found["explained"][name]["value"] == pytest.approx(out_of["explained"][name], abs=0.02)
    assert found["kl"]["value"] == pytest.approx(out_of["kl"], abs=0.02)


def test_a_split_is_that_of_all_runs() -> None:
    """Two runs that go opposite ways: the mean of their KLs, of which one exponent for both explains little."""
    p = np.array([0.4, 0.35, 0.15, 0.1])
    powers = np.array([p**2 / (p**2).sum(), p**0.25 / (p**0.25).sum()])
    problem = Problem(p, [0, 0, 1, 1], [1, 2, 3, 4])
    track = np.log(np.stack([np.stack([p, p]), powers]))
    first, last = audit_tracks(problem, np.array([0, 10]), {"tempered/rloo": track})
    kl = np.mean([pi @ np.log(pi / p) for pi in powers])
    assert (first["kl"], last["kl"]) == (pytest.approx(0, abs=1e-12), pytest.approx(kl))
    assert last["policy"] == pytest.approx(powers.mean(axis=0))
    assert last["explained"]["sharpening"] < 0.5 * kl


def test_json_has_the_audit_only_if_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--learner", "natural", "--steps", "4", "--alpha", "2", "--json")
    assert simulated(tmp_path / "run", *short) == 0
    assert "audit" not in json.loads(capsys.readouterr().out)
    assert not (tmp_path / "run" / "audit.json").exists()
    assert simulated(tmp_path / "run", *short, "--audit") == 0  # of the finished run
    found = json.loads(capsys.readouterr().out)["audit"]
    assert found[-1]["explained"]["length"] > 0
    assert {"kl", "rest", "shapley", "alpha"} <= found[-1].keys()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trajectory"):
        audit_run(tmp_path)
