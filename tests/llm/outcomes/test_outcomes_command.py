"""``sharpen llm outcomes`` on the embedded model: its tables, folders that continue, what it refuses, and readers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from sharpen.cli.main import main
from sharpen.llm.common import jsonl
from sharpen.llm.configs.outcomes import OutcomesConfig
from sharpen.llm.evaluation.records import Record as Sampled
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.outcomes.record import Record
from sharpen.llm.outcomes.run import SUMMARY, TREES, OutcomesReport, run_outcomes
from sharpen.llm.outcomes.tree import Growth, grow
from sharpen.llm.rollout.requests import eos_token_ids
from sharpen.theory.audit.outcomes import OUTCOMES, known_of, read_known
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.forecast.trees import certified

ASK = ["--problems", "3", "--alpha", "1,2", "--max-response", "5", "--budget", "40"]
TABLES = ("outcomes.parquet", "frontier.parquet", SUMMARY, TREES)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main([*arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outcomes") / "out"
    assert run("llm", "outcomes", *ASK, "--out", str(out)) == 0
    return out


def test_the_tables_have_the_fixed_columns_and_their_masses_sum_to_one(finished: Path) -> None:
    outcomes, frontier = (parquet.read_table(finished / name).to_pandas() for name in TABLES[:2])
    assert list(outcomes.columns) == ["prompt_id", "response", "logprob", "reward", "length"]
    assert list(frontier.columns) == ["prompt_id", "depth", "logprob", "alpha"]
    assert outcomes.prompt_id.nunique() == 3
    assert outcomes.length.between(1, 5).all()
    plain = frontier[frontier.alpha.isna() | (frontier.alpha == 1)]
    for name, own in outcomes.groupby("prompt_id"):
        rest = plain[plain.prompt_id == name].logprob
        assert np.exp(own.logprob).sum() + np.exp(rest).sum() == pytest.approx(1, abs=1e-4)


def test_a_forecast_reads_the_sums_of_its_own_exponent(tmp_path: Path) -> None:
    """Nearly all responses (.999 of the mass) as the truth: a coarse tree bounds it, closer than sums at 1 would."""
    ask = ["--problems", "2", "--max-length", "48", "--alpha", "2,4", "--width", "1e-12"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run("llm", "outcomes", *ask, "--threshold", "5e-5", "--budget", "3000", "--out", str(whole)) == 0
    assert run("llm", "outcomes", *ask, "--threshold", "0.01", "--out", str(part)) == 0
    everything = parquet.read_table(whole / "outcomes.parquet").to_pandas()
    by_prompt = everything.groupby("prompt_id", sort=False)
    assert (np.exp(everything.logprob).groupby(everything.prompt_id).sum() > 0.99).all()
    known = known_of(read_known(part / OUTCOMES), list(by_prompt.groups))
    loose = [one._replace(sums={1.0: one.sums[1.0]}) for one in known]
    for alpha in (2.0, 4.0):
        weights = [(np.exp(alpha * own.logprob), own.reward) for _, own in by_prompt]
        truth = np.mean([(w * r).sum() / w.sum() for w, r in weights])
        assert truth > 0.1
        (low, high), (least, most) = (
            certified(one, alpha, [], np.zeros(2), Resampler(2, 0))["certain"] for one in (known, loose)
        )
        assert low - 1e-6 <= truth <= high + 1e-6
        assert most - least > 1.5 * (high - low)


def test_log_probabilities_are_those_of_a_plain_pass() -> None:
    source = resolve("embedded")
    model, tokenizer = load_model(source, "cpu", "float32").eval(), load_tokenizer(source)
    prompt = tokenizer.encode("What is 12 + 30?\n")
    eos_ids = eos_token_ids(model, tokenizer)
    tree = grow(model, prompt, Growth((2.0,), 1e-6, 1e-3, 60, 6, 16), eos_ids=eos_ids, stops=None)
    rows = [list(one.tokens) for one in tree.outcomes]
    assert len(rows) > 5
    plain = token_logprobs(model, [prompt] * len(rows), rows, micro_batch_tokens=256).logprobs_BT.double().sum(dim=1)
    assert [one.logprob for one in tree.outcomes] == pytest.approx(plain.tolist(), abs=1e-3)
    assert all(one.finished == (one.tokens[-1] in eos_ids) for one in tree.outcomes)


def test_a_killed_run_continues_to_the_same_tables(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    lines = (again / TREES).read_bytes().splitlines(keepends=True)
    (again / TREES).write_bytes(lines[0] + lines[1][:50])  # as a kill leaves it
    for name in (*TABLES[:2], SUMMARY):
        (again / name).unlink()
    assert run("llm", "outcomes", *ASK, "--out", str(again)) == 0
    assert json.loads((again / SUMMARY).read_text()) == json.loads((finished / SUMMARY).read_text())
    first, second = (parquet.read_table(folder / "outcomes.parquet") for folder in (again, finished))
    assert first["response"].to_pylist() == second["response"].to_pylist()
    assert first["logprob"].to_pylist() == pytest.approx(second["logprob"].to_pylist(), abs=1e-6)


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    config = OutcomesConfig.model_validate({"problems": 3, "max_response": 3, "budget": 8})
    seen: list[int] = []

    def stop(records: list[Record], total: int, earlier: int) -> None:
        import os
        import signal

        seen.append(len(records))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_outcomes(config, tmp_path / "out", report=OutcomesReport(progress=stop))
    assert len(jsonl.read(tmp_path / "out" / TREES, Record)) == len(seen) == 1
    notes: list[str] = []
    assert run_outcomes(config, tmp_path / "out", report=OutcomesReport(note=notes.append))["problems"] == 3
    assert notes == ["continuing after 1 of 3 problems"]


def test_rewards_are_an_evaluation_s(tmp_path: Path) -> None:
    ask = ["--problems", "4", "--samples", "16", "--engine", "transformers", "--max-length", "48", "--seed", "1"]
    assert run("llm", "eval", *ask, "--out", str(tmp_path / "eval")) == 0
    flags = ["--problems", "4", "--alpha", "1", "--max-length", "48", "--budget", "150", "--threshold", "0.005"]
    assert run("llm", "outcomes", *flags, "--out", str(tmp_path / "tree")) == 0
    known = parquet.read_table(tmp_path / "tree" / "outcomes.parquet").to_pylist()
    trees = {(row["prompt_id"], row["response"], row["length"]): row for row in known}
    both = [
        (trees[key], right, logprob)
        for one in jsonl.read(tmp_path / "eval" / "records.jsonl", Sampled)
        for text, length, right, logprob in zip(one.responses, one.lengths, one.correct, one.logprob or [], strict=True)
        if (key := (one.id, text, length)) in trees
    ]
    assert len(both) > 5
    assert {right for _, right, _ in both} == {True, False}
    assert all(row["reward"] == right for row, right, _ in both)
    assert all(row["logprob"] == pytest.approx(logprob, abs=1e-3) for row, _, logprob in both)


def test_json_and_figure(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    picture = tmp_path / "bounds.png"
    assert run("llm", "outcomes", *ASK, "--out", str(finished), "--json", "--plot", str(picture)) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [row["alpha"] for row in found["curve"]] == [1, 2]
    assert all(row["low"] <= row["high"] <= row["low"] + row["widest"] + 1e-12 for row in found["curve"])
    assert found["forward_tokens"]["most"] <= 40
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_theory_reads_the_tables(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    asked = ["theory", "optimum", "--problems", str(finished / "outcomes.parquet")]
    assert run(*asked, "--alpha", "2", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    summary = json.loads((finished / SUMMARY).read_text())
    (row,) = [row for row in summary["curve"] if row["alpha"] == 2]
    assert found["mean"]["expected_reward"] == pytest.approx([row["low"], row["high"]])
    assert found["mean"]["mode_certain"] == summary["mode_certain"]
    assert run(*asked, "--alpha", "2", "--beta-inv", "1") == 0
    assert "mean" in capsys.readouterr().out
    for flags, said in (
        (["--alpha", "0.5"], "no bound"),
        (["--preset", "sharpening"], "mode sampling"),
        (["--alpha", "2", "--kl", "1"], "without --problems"),
    ):
        assert run(*asked, *flags) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--alpha", "0.5"], "below 1"),
        (["--alpha", "two"], "alpha"),
        (["--alpha", "2", "--width", "0"], "width"),
        (["--alpha", "2", "--task", "embedded", "--data", "embedded"], "task"),
        (["--alpha", "2", "--plot", "a.txt"], "txt"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("llm", "outcomes", *flags, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()
