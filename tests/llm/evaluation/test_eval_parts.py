"""An evaluation's folder says which task and template of the user's it was computed with, as a training run's does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sharpen.llm.configs.targets import complete
from sharpen.llm.evaluation.own_parts import own_parts
from sharpen.llm.evaluation.run import EvalConfig, run_evaluation
from sharpen.llm.preflight.findings import Findings
from sharpen.objective import InputError
from sharpen.objective.storage import runfolder


def test_the_users_template_stands_in_provenance(tmp_path: Path) -> None:
    template = tmp_path / "own.txt"
    template.write_text("{problem}", encoding="utf-8")
    out = tmp_path / "eval"
    fields = {"model": "embedded", "data": "embedded", "template": str(template), "engine": "transformers"}
    run_evaluation(EvalConfig.as_written(complete({**fields, "problems": 2, "samples": 1, "likelihoods": False})), out)
    parts = json.loads((out / runfolder.PROVENANCE).read_text(encoding="utf-8"))["parts"]
    assert parts[f"template {template}"][0]["sha256"] == hashlib.sha256(template.read_bytes()).hexdigest()


def test_each_version_is_kept_and_a_change_is_told(tmp_path: Path) -> None:
    (tmp_path / runfolder.PROVENANCE).write_text(json.dumps({"parts": {"task a": [{"sha256": "1"}]}}), encoding="utf-8")
    notes: list[str] = []
    found = own_parts(tmp_path, {"task a": {"sha256": "2"}, "task b": None}, notes.append)
    assert found == {"parts": {"task a": [{"sha256": "1"}, {"sha256": "2"}]}}
    assert len(notes) == 1
    assert own_parts(tmp_path, {"task a": {"sha256": "1"}}, notes.append) == {"parts": {"task a": [{"sha256": "1"}]}}
    assert own_parts(tmp_path, {"task b": None}, notes.append) == {}
    assert len(notes) == 1


def test_what_is_wrong_for_several_purposes_is_told_once() -> None:
    findings = Findings()
    for field in ("data", "eval_data", "data"):
        findings.errors.append(InputError(field, "antonims", "antonyms"))
    findings.errors.append(InputError("model", "nope", "embedded"))
    findings.say_once()
    assert [error.field for error in findings.errors] == ["data, eval_data", "model"]
    with pytest.raises(InputError, match="2 things"):
        findings.settle()
