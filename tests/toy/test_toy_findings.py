"""Findings: the command on real runs, and rules that say no where the numbers do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sharpen.cli.main import main
from sharpen.toy.findings import ELSEWHERE, FINDINGS, TO_GIBBS, Runs, at_end


def ends(measures: dict[str, list[float]], **axes: list[str]) -> Runs:
    """Return a table of runs at their last step only."""
    size = len(next(iter(measures.values())))
    columns = {name: np.array(values) for name, values in (measures | axes).items()}
    return {"step": np.full(size, 10), "seed": np.arange(size), **columns}


def test_the_command_decides_from_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "findings", "face", "--seeds", "3", "--out", str(tmp_path), "--json"])
    assert exited.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)["findings"]
    assert (row["id"], row["holds"]) == ("face", True)
    mean, low, high = row["numbers"]["KL within the face, rloo"]
    assert 0.01 < low <= mean <= high
    assert len(list(tmp_path.glob("face/*/sweep.parquet"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"), [(["luck"], "finding: got 'luck'"), (["face", "--seeds", "1"], "seeds")]
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "findings", *arguments, "--out", str(tmp_path)])
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_intervals_are_over_the_seeds_of_one_setting() -> None:
    runs = ends({"top1": [1.0, 3.0, 100.0]}, learner=["a", "a", "b"])
    found = at_end(runs, "top1", learner="a")
    assert found.mean == 2.0
    assert found.high == pytest.approx(2.0 + 12.706204736)  # t(0.975, 1) times a standard error of 1


@pytest.mark.parametrize(("wrong", "correct", "holds"), [(0.0, 1.0, True), (0.3, 1.0, False), (0.0, 0.5, False)])
def test_the_mode_rule(wrong: float, correct: float, holds: bool) -> None:
    tables = {
        name: ends({"expected_reward": [value, value]})
        for name, value in (("wrong mode", wrong), ("correct mode", correct))
    }
    assert FINDINGS["mode"].decide(tables).holds is holds


@pytest.mark.parametrize(("moved", "holds"), [(None, True), ("k1-reward", False), ("k3-loss", False)])
def test_the_placements_rule(moved: str | None, holds: bool) -> None:
    far = {kl: (kl in ELSEWHERE) != (kl == moved) for kl in TO_GIBBS + ELSEWHERE}
    names = [kl for kl in far for _ in range(2)]
    tables = {"tilted": ends({"kl_optimum": [0.5 * far[kl] for kl in names]}, kl=names)}
    assert bool(FINDINGS["placements"].decide(tables).holds) is holds


def test_the_support_and_rank_rules() -> None:
    full, lost = ends({"effective_support": [3.0, 3.0]}), ends({"effective_support": [1.0, 1.1]})
    assert FINDINGS["support"].decide({"flow": full, "2 samples": lost}).holds
    assert not FINDINGS["support"].decide({"flow": full, "2 samples": full}).holds
    learners = ["grpo", "grpo", "unlikeliness", "unlikeliness"]
    for values, holds in (([0.3, 0.31, 0.05, 0.06], True), ([0.05, 0.06, 0.3, 0.31], False)):
        assert FINDINGS["rank"].decide({"both": ends({"kl_correct": values}, learner=learners)}).holds == holds
