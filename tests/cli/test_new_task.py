"""``sharpen llm new-task`` writes files that run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpen.cli.llm.new_task import check
from sharpen.objective import InputError


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_what_it_writes_passes_its_test_and_trains(tmp_path: Path) -> None:
    assert run(tmp_path, "sharpen.cli.main", "llm", "new-task", "sums_of_three").returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "sums_of_three.py",
        "sums_of_three.yaml",
        "test_sums_of_three.py",
    ]
    tested = run(tmp_path, "pytest", "-q", "test_sums_of_three.py")
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    small = ["--prompts-per-step", "2", "--samples-per-prompt", "2", "--eval-problems", "2", "--eval-samples", "2"]
    command = ["sharpen.cli.main", "llm", "train", "--config", "sums_of_three.yaml", "--steps", "2", *small]
    trained = run(tmp_path, *command, "--out", "run")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "evaluation.json").is_file()
    assert '"template": "sums_of_three:asking"' in (tmp_path / "run" / "provenance.json").read_text()
    again = run(tmp_path, "sharpen.cli.main", "llm", "new-task", "sums_of_three")
    assert again.returncode == 2
    assert "sums_of_three.yaml" in again.stderr


@pytest.mark.parametrize("name", ["json", "sharpen", "two words", "../evil", "class", "9lives", "Upper", ""])
def test_names_that_cannot_be_a_new_module_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="name: got"):
        check(name)
