"""``sharpen theory … --problems``: bounds around the exact numbers of problems of which a part is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.objective import Objective
from sharpen.theory import Problem, coverage, fixed_points
from sharpen.theory import Prompt as Weighed

NAMES = ["sum-aa1", "sum-ba1", "sum-ca2"]


def problems() -> list[Problem]:
    rng = np.random.default_rng(5)
    return [Problem(rng.dirichlet(np.full(40, 0.2)), rng.integers(0, 2, 40)) for _ in NAMES]


def known(folder: Path, least: float) -> str:
    """Write the outcomes of at least so much mass, the others as frontier."""
    rows: list[dict[str, Any]] = []
    front: list[dict[str, Any]] = []
    for name, one in zip(NAMES, problems(), strict=True):
        for log_p, reward in zip(one.log_base.tolist(), one.reward.tolist(), strict=True):
            row = {"prompt_id": name, "logprob": log_p}
            if log_p >= np.log(least):
                rows.append(row | {"response": "x", "reward": reward, "length": 1})
            else:
                front.append(row | {"depth": 1, "alpha": None})
    schema = pa.schema({"prompt_id": pa.string(), "logprob": pa.float64(), "depth": pa.int64(), "alpha": pa.float64()})
    parquet.write_table(pa.Table.from_pylist(rows), folder / "outcomes.parquet")
    parquet.write_table(pa.Table.from_pylist(front, schema), folder / "frontier.parquet")
    return str(folder / "outcomes.parquet")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["theory", *arguments])
    return int(end.value.code or 0)


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    schemas = {"optimum": schema_of("theory optimum"), "response": schema_of("theory response")}
    schemas |= {"coverage": schema_of("theory coverage"), "fixed-points": schema_of("theory fixed-points")}
    jsonschema.validate(told, schemas[arguments[0]])
    return told


@pytest.mark.parametrize(("over", "held"), [("alpha", []), ("beta_inv", ["--alpha", "1.5"])])
def test_response(over: str, held: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["response", "--problems", known(tmp_path, 0.005), "--over", over, "--points", "4", *held]
    rows = found(capsys, *asked)["expected_reward"]
    assert rows[0][over] == (1 if over == "alpha" else 0)
    for row in rows:
        alpha, beta_inv = (row["alpha"], 0.0) if over == "alpha" else (1.5, row["beta_inv"])
        weights = [(one.base**alpha * np.exp(beta_inv * one.reward), one.reward) for one in problems()]
        truth = np.mean([w @ r / w.sum() for w, r in weights])
        assert row["low"] - 1e-9 <= truth <= row["high"] + 1e-9
        assert row["high"] - row["low"] < 0.1
    alone = found(capsys, *asked, "--problem", NAMES[1])["expected_reward"]
    assert alone != rows


def test_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["coverage", "--problems", known(tmp_path, 0.002), "--alpha", "4", "--k", "1,4,64"]
    told = found(capsys, *asked)
    exact = coverage(Objective(alpha=4), [Weighed(one) for one in problems()], [1, 4, 64], majority=False)
    for name, policy in (("base", "base"), ("optimum", next(one for one in exact.policies if one != "base"))):
        for row, truth in zip(told["pass_at_k"], exact.policies[policy].pass_at_k.tolist(), strict=True):
            assert row[name][0] - 1e-9 <= truth <= row[name][1] + 1e-9
    first = exact.crossover[next(iter(exact.crossover))]
    assert told["base_ahead_by"] is not None
    assert first is not None
    assert told["base_ahead_by"] >= first
    assert run(*asked) == 0
    assert "maj@k is left out" in capsys.readouterr().out


def test_fixed_points_of_all_outcomes_are_the_problem_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--alpha", "2", "--beta-inv", "1", "--limit", "50"]
    told = found(capsys, "fixed-points", "--problems", known(tmp_path, 1e-300), "--problem", "ca2", *flags)
    exact = fixed_points(Objective(alpha=2, beta_inv=1), problems()[2], 50)
    assert told["prompt_id"] == NAMES[2]
    assert told["unseen_mass"] == 0
    assert told["total"] == exact.total
    for one, point in zip(told["fixed_points"], exact.points, strict=True):
        assert one["class"] == point.kind
        assert one["probabilities"] == pytest.approx(point.probabilities.tolist())


def test_a_frontier_that_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["fixed-points", "--problems", known(tmp_path, 0.05), "--problem", NAMES[0]]
    one = problems()[0]
    told = found(capsys, *asked)
    assert told["unseen_mass"] == pytest.approx(one.base[one.base < 0.05].sum())
    kept = one.base[one.base >= 0.05]
    assert told["base"] == pytest.approx((kept / kept.sum()).tolist())
    assert run(*asked) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "is left out" in first
    assert f"{told['unseen_mass']:.3g}" in first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fixed-points"], "one of the 3 problems"),
        (["fixed-points", "--problem", "nothing"], "one of the 3 problems"),
        (["response", "--problem", "a1"], "one of the 3 problems"),  # two end so
        (["response", "--from", "0"], "no bound"),
        (["response", "--base", "0.5,0.5"], "without --problems"),
        (["coverage", "--alpha", "0.5"], "no bound"),
        (["coverage", "--k", "0"], "k"),
        (["coverage", "--best-of", "4"], "without --problems"),
        (["coverage", "--preset", "sharpening"], "mode sampling"),
    ],
)
def test_what_nothing_bounds_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--problems", known(tmp_path, 0.01)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error


def test_one_problem_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fixed-points", "--problem", "a") == 2
    assert "--problems" in capsys.readouterr().err
