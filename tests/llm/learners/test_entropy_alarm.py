"""The alarm for an entropy that collapses: told once, kept with the run, not told again by one that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpen.llm.common.report import Report
from sharpen.llm.configs.train import resolve
from sharpen.llm.learners import alarm
from sharpen.llm.learners.alarm import EntropyAlarm
from sharpen.llm.training import metrics
from sharpen.llm.training.run import train


def records(*entropies: float) -> list[dict[str, float]]:
    return [{"step": step, "entropy": entropy} for step, entropy in enumerate(entropies)]


def test_it_tells_of_the_first_step_below_a_tenth_and_of_no_other() -> None:
    course = records(2.0, 0.5, 0.21, 0.19, 0.1, 1.0, 0.01)
    told = EntropyAlarm()
    assert [told(record) for record in course[:3]] == [None] * 3
    assert told(course[3]) == {"step": 3, "entropy": 0.19, "first": 2.0}
    assert [told(record) for record in course[4:]] == [None] * 3


@pytest.mark.parametrize("known", range(7))
def test_a_run_that_goes_on_tells_what_it_has_not_told(known: int) -> None:
    course = records(2.0, 0.5, 0.21, 0.19, 0.1, 1.0, 0.01)
    told = EntropyAlarm(course[:known])
    assert [record["step"] for record in course[known:] if told(record)] == ([3] if known <= 3 else [])


def test_a_policy_without_entropy_from_the_start_has_not_collapsed() -> None:
    assert [EntropyAlarm(records(0.0))(record) for record in records(0.0, 0.0)] == [None, None]


def test_a_run_tells_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "SHARE", 10.0)  # of a second step that has less than ten times the first's: every one
    fields: dict[str, Any] = {"objective": {"beta_inv": 1.0, "utility": "pass@2"}, "learner": {"kind": "pass-k"}}
    fields |= {"prompts_per_step": 2, "samples_per_prompt": 3, "max_length": 32, "engine": "transformers", "steps": 1}
    fields |= {"evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0, "choose_by": "last"}, "trackers": []}
    notes: list[str] = []
    train(resolve(fields), tmp_path / "run", report=Report(note=notes.append))
    (record,) = metrics.read(tmp_path / "run" / "metrics.jsonl")
    kept = json.loads((tmp_path / "run" / "provenance.json").read_text())["entropy_collapsed"]
    assert kept == {"step": 0, "entropy": record["entropy"], "first": record["entropy"]}
    (note,) = (note for note in notes if "entropy has collapsed" in note)
    assert note.startswith("step 1: ")
    assert "\n" not in note
