"""``sharpen llm eval``: what it may be pointed at, what it prints, and that a killed evaluation continues."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.llm.configs.targets import find_target
from sharpen.llm.configs.train import resolve as training_settings
from sharpen.llm.evaluation import records as store
from sharpen.llm.evaluation.run import EVALUATION, RECORDS, EvalConfig, EvalReport, run_evaluation
from sharpen.llm.evaluation.summary import summarise
from sharpen.llm.models.registry import resolve
from sharpen.objective import InputError

SOURCE = resolve("embedded")
DATA = os.environ.get("SHARPEN_DATA_DIR")


def settings(**changes: object) -> EvalConfig:
    own = {"model": SOURCE.location, "data": "embedded", "template": "plain", "engine": "transformers"}
    return EvalConfig.model_validate({**own, "problems": 4, "samples": 4, "max_length": 48, "batch": 2, **changes})


def test_a_killed_evaluation_continues_to_the_same_measures(tmp_path: Path) -> None:
    whole, records = run_evaluation(settings(base=SOURCE.location), tmp_path / "whole")
    assert whole["kl_base"] == 0.0
    assert json.loads((tmp_path / "whole" / EVALUATION).read_text()) == whole
    run_evaluation(settings(base=SOURCE.location), tmp_path / "killed")
    file = tmp_path / "killed" / RECORDS
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join(lines[:3]) + b"\n" + lines[3][:50])  # as kill -9 within the write of a batch leaves it
    notes: list[str] = []
    again, resumed = run_evaluation(
        settings(base=SOURCE.location), tmp_path / "killed", report=EvalReport(note=notes.append)
    )
    assert notes[:1] == [
        "continuing after 2 of 4 problems"
    ]  # of the same batches as without the kill, so to the same bits
    assert resumed == records
    assert again == whole
    with pytest.raises(InputError, match="samples: 4 -> 5"):
        run_evaluation(settings(base=SOURCE.location, samples=5), tmp_path / "killed")
    stored = store.read(tmp_path / "whole" / RECORDS)
    assert summarise(stored, 42)["maj@4"] == whole["maj@4"]


def test_other_distributions_than_the_policys_measure_no_kl() -> None:
    found, _ = run_evaluation(settings(base=SOURCE.location, temperature=0.5, problems=1), None)
    assert found["kl_base"] is None
    assert found["entropy"] is None
    assert found["pass@1"] is not None
    without, _ = run_evaluation(settings(likelihoods=False, problems=1), None)
    assert without["logprob"] is None


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A training run's folder with checkpoints after 2 and 4 updates, the first of which is the best."""
    run = tmp_path / "run"
    config = training_settings({"evaluation": {"split": "validation", "problems": 7, "samples": 2}})
    for step in (2, 4):
        shutil.copytree(SOURCE.location, run / "checkpoints" / f"step_{step:06d}")
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (run / "checkpoints" / "best").symlink_to("step_000002")
    return run


def test_what_a_model_may_be(run_folder: Path, tmp_path: Path) -> None:
    steps = {step: str((run_folder / "checkpoints" / f"step_{step:06d}").resolve()) for step in (2, 4)}
    last = find_target(str(run_folder))
    assert (last.location, last.base, last.split, last.problems) == (steps[4], SOURCE.location, "validation", 7)
    assert find_target(str(run_folder), "best").location == steps[2]
    assert find_target(str(run_folder), "2").location == steps[2]
    assert find_target(str(run_folder), "base").location == SOURCE.location
    assert find_target(str(run_folder / "checkpoints" / "step_000002")).base == SOURCE.location
    plain = find_target("embedded")
    assert (plain.location, plain.base, plain.template, plain.data) == (SOURCE.location,) * 2 + ("plain", "embedded")
    assert find_target(SOURCE.location).base is None  # a folder may hold anything
    with pytest.raises(InputError, match=r"allowed: base, best, 2, 4, the checkpoints of"):
        find_target(str(run_folder), "3")
    with pytest.raises(InputError, match="which is no run folder"):
        find_target("embedded", "best")
    with pytest.raises(InputError, match="model: got 'nowhere'"):
        find_target("nowhere")


def command(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    shared = ("--samples", "4", "--max-length", "48", "--engine", "transformers", "--problems", "2")
    with pytest.raises(SystemExit) as stop:
        main(["llm", "eval", *arguments, *shared])
    printed = capsys.readouterr()
    assert stop.value.code == status, printed.err
    return printed.out if status == 0 else printed.err


def test_the_json_has_the_documented_fields(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluation"
    command(capsys, "--model", "embedded", "--data", "embedded", "--split", "validation", "--out", str(out))
    printed = command(capsys, "--model", str(run_folder), "--json", "--compare", str(out))
    found = json.loads(printed)
    jsonschema.validate(found, schema_of("llm eval"))
    plain = {"model", "data", "split", "problems", "samples", "response_length_quantiles", "cut"}
    measured = {f"{kind}@{k}" for kind in ("pass", "maj") for k in (1, 2, 4)}
    measured |= {"response_length", "finished", "answered", "entropy", "logprob", "base_logprob", "kl_base"}
    groups = {"by_subject", "by_level", "comparison", "model_history", "template_boxed"}
    groups |= {"template_examples", "left_out"}
    assert found.keys() == plain | measured | {f"{name}_interval" for name in measured} | groups
    assert (found["split"], found["problems"], found["samples"]) == ("validation", 2, 4)
    # The checkpoint is a copy of the base and is asked with the same random numbers.
    comparison = found["comparison"]
    assert (comparison["problems"], comparison["left_out"]) == (2, 0)
    for row in comparison["measures"].values():
        assert row.keys() == {
            *("ours", "theirs", "difference", "interval", "permutation_p", "wins", "losses", "sign_p")
        }
        assert row["difference"] == pytest.approx(0.0, abs=1e-9)
    documented = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    assert [name for name in plain | measured if name.split("@")[0] not in documented] == []


def test_bad_input_is_one_line_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, field in (
        (("--model", "nowhere"), "model"),
        (("--data", "nowhere"), "data"),
        (("--compare", str(tmp_path)), "compare"),
        (("--split", "dev"), "split"),
        (("--temperature", "-1"), "temperature"),
        (("--temperature", "0.001"), "temperature"),
        (("--top-p", "0"), "top_p"),
        (("--checkpoint", "best"), "checkpoint"),
    ):
        (line,) = command(capsys, *arguments, status=2).splitlines()
        assert line.startswith(f"error: {field}"), line


@pytest.mark.skipif(DATA is None, reason="SHARPEN_DATA_DIR names no folder with the real files")
@pytest.mark.parametrize(("file", "group"), [("math500", None), ("math", "level"), ("aime24", None), ("gsm8k", None)])
def test_real_files(file: str, group: str | None) -> None:
    """The embedded model cannot read these problems; that it is asked them and marked is what is tested."""
    found, records = run_evaluation(
        settings(data=f"{DATA}/{file}", split="validation" if file == "math" else "test", max_length=1500, samples=2),
        None,
    )
    assert found["problems"] == 4
    assert 0 <= found["pass@1"] <= 1
    assert all(len(one.responses) == 2 for one in records)
    if group is not None:
        assert sum(row["problems"] for row in found[f"by_{group}"].values()) == 4
