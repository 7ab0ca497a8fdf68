"""The names that scripts rely on, read from what the three commands write with the flags that are promised."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pyarrow import parquet

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of

SHORT = ("--problems", "3", "--max-length", "40")
SAMPLED = ("--samples", "4", "--engine", "transformers", *SHORT)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["llm", *arguments])
    assert not end.value.code
    return capsys.readouterr().out


def test_outcomes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--model", "embedded", "--alpha", "2", "--width", "0.001", "--threshold", "0.01", *SHORT)
    output(capsys, "outcomes", *asked, "--out", str(tmp_path))
    seen, frontier = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("outcomes", "frontier"))
    assert seen.column_names == ["prompt_id", "response", "logprob", "reward", "length"]
    assert frontier.column_names == ["prompt_id", "depth", "logprob", "alpha"]
    assert len(set(seen["prompt_id"].to_pylist())) == 3
    rows = frontier.to_pylist()
    assert {row["alpha"] for row in rows} <= {None, 1.0, 2.0}
    # A remainder: at each depth (1/alpha) log sum u^alpha, which falls in alpha.
    sums = {(row["prompt_id"], row["depth"], row["alpha"]): row["logprob"] for row in rows if row["alpha"]}
    assert sums
    assert all(sums[name, depth, 2.0] <= log_u + 1e-9 for (name, depth, alpha), log_u in sums.items() if alpha == 1.0)


def test_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(capsys, "forecast", "--model", "embedded", "--json", *SAMPLED))
    jsonschema.validate(found, schema_of("llm forecast"))
    assert found["slope_at_1"].keys() == {"value", "low", "high"}
    assert isinstance(found["verdict"], str)
    assert found["curve"][0]["alpha"] == 1
    assert 0 <= found["curve"][0]["low"] <= found["curve"][0]["expected_reward"] <= found["curve"][0]["high"] <= 1
    for row in found["curve"]:
        assert {"alpha", "expected_reward", "low", "high", "ess"} <= row.keys()
        assert 1 <= row["ess"] <= 4 + 1e-9
        assert (row["expected_reward"] is None) == ("needs" in row)


def test_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--steps", "1", "--prompts-per-step", "2", "--samples-per-prompt", "4", "--max-length", "40")
    small = ("--learning-rate", "1e-3", "--set", "optimizer.warmup_steps=0", "--eval-problems", "2")
    asked = (*sizes, *small, "--eval-samples", "2", "--engine", "transformers", "--out", str(tmp_path / "run"))
    trained = json.loads(output(capsys, "train", "--preset", "tempered", *asked, "--json"))
    jsonschema.validate(trained, schema_of("llm train"))
    models = ("--base", "embedded", "--policy", str(tmp_path / "run"), "--checkpoint", "1")
    found = json.loads(output(capsys, "audit", *models, "--json", *SAMPLED))
    jsonschema.validate(found, schema_of("llm audit"))
    single = {"sharpening", "reward", "length"}
    both = {"sharpening+reward", "sharpening+length", "reward+length", "all"}
    assert found["explained"].keys() == single | both
    assert found["shapley"].keys() == single
    rows: list[dict[str, Any]] = [found["kl"], found["rest"], *found["explained"].values(), *found["shapley"].values()]
    assert all(row.keys() == {"value", "low", "high"} for row in rows)
    assert all(math.isfinite(end) for row in rows for end in row.values())
    assert found["kl"]["value"] == pytest.approx(found["explained"]["all"]["value"] + found["rest"]["value"])
