"""Rules that are fixed before runs, as the history of a repository shows it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sharpen.paper_repro.grids.grid import Grid, load_grid
from sharpen.paper_repro.grids.order import UNKNOWN, order
from sharpen.paper_repro.grids.rules import rules_hash

GRID = Path(__file__).parents[2] / "paper_repro" / "dial.yaml"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", f"change {name}")
    return git(folder, "rev-parse", "HEAD")


def result(at: str, **more: Any) -> dict[str, Any]:
    origin = {"commit": at, "finished": "2020-01-02T00:00:00+00:00", "seconds": 60.0}
    return {"provenance": {**origin, **more}}


@pytest.fixture
def history(tmp_path: Path) -> dict[str, Any]:
    """A repository whose rules were changed once, with runs before and after, and then the picked line."""
    git(tmp_path, "init", "-q")
    text = GRID.read_text(encoding="utf-8")
    found: dict[str, Any] = {"file": tmp_path / "dial.yaml"}
    found["first"] = commit(tmp_path, "dial.yaml", text.replace("effect: 0.05", "effect: 0.01"))
    found["early"] = commit(tmp_path, "code.py", "x = 1\n")
    found["fixed"] = commit(tmp_path, "dial.yaml", text)
    found["late"] = commit(tmp_path, "code.py", "x = 2\n")
    line = "optimizer: *plain}  # the optimiser is"
    assert line in text
    found["picked"] = commit(tmp_path, "dial.yaml", text.replace(line, "optimizer: *fast}  # the optimiser is"))
    return found


def grid_of(history: dict[str, Any]) -> Grid:
    return load_grid(history["file"], "dial")


def test_runs_after_the_rules_are_judged_and_earlier_ones_refused(history: dict[str, Any]) -> None:
    results = {name: result(history[name]) for name in ("first", "early", "fixed", "late", "picked")}
    found = order(grid_of(history), "dial", results, history["file"])
    assert found.since == history["fixed"]
    assert set(found.younger) == {"first", "early"}
    assert not found.registered
    assert len(found.picked) == 2


def test_results_after_the_rules_alone_are_registered(history: dict[str, Any]) -> None:
    assert order(grid_of(history), "dial", {"a": result(history["late"] + "+")}, history["file"]).registered


def test_rules_that_are_in_no_commit_refuse_everything(history: dict[str, Any]) -> None:
    text = history["file"].read_text(encoding="utf-8")
    history["file"].write_text(text.replace("null_margin: 0.03", "null_margin: 0.5"), encoding="utf-8")
    found = order(grid_of(history), "dial", {"a": result(history["picked"])}, history["file"])
    assert list(found.younger) == ["a"]
    assert found.since is None


def test_a_result_of_other_rules_is_refused(history: dict[str, Any]) -> None:
    found = order(grid_of(history), "dial", {"a": result(history["late"], rules="0" * 16)}, history["file"])
    assert "0" * 16 in found.younger["a"]


def test_an_unknown_commit_has_its_clock_alone(history: dict[str, Any]) -> None:
    early = result("1" * 40)
    late = result("1" * 40, finished="2999-01-01T00:00:00+00:00")
    found = order(grid_of(history), "dial", {"early": early, "late": late}, history["file"])
    assert found.younger == {"early": UNKNOWN}
    assert found.by_clock == ("late",)


def test_a_comment_changes_no_rule_and_a_threshold_does() -> None:
    text = GRID.read_text(encoding="utf-8")
    assert rules_hash(text) == rules_hash("# more\n" + text)
    assert rules_hash(text) != rules_hash(text.replace("effect: 0.05", "effect: 0.04"))


def test_the_first_study_has_no_rules_that_were_fixed_first() -> None:
    found = order(load_grid(None, "embedded"), "embedded", {})
    assert found.rules is None
    assert not found.registered
