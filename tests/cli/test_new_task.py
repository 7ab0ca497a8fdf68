"""``sharpen llm new-task`` writes files that run as they are."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from sharpen.cli.llm.new_task import check
from sharpen.objective import InputError
from tests.forked import Forks

COMMAND = "from sharpen.cli.main import main; main()"
TESTED = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"


def test_what_it_writes_passes_its_test_and_trains(tmp_path: Path, model_forks: Forks) -> None:
    run = partial(model_forks.run, environment=os.environ, folder=tmp_path)
    assert run(COMMAND, "llm", "new-task", "sums_of_three").returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "sums_of_three.py",
        "sums_of_three.yaml",
        "test_sums_of_three.py",
    ]
    tested = run(TESTED, "-q", "test_sums_of_three.py")
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    small = ["--prompts-per-step", "2", "--samples-per-prompt", "2", "--eval-problems", "2", "--eval-samples", "2"]
    command = ["llm", "train", "--config", "sums_of_three.yaml", "--steps", "2", *small]
    trained = run(COMMAND, *command, "--out", "run")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "evaluation.json").is_file()
    assert '"template": "sums_of_three:asking"' in (tmp_path / "run" / "provenance.json").read_text()
    again = run(COMMAND, "llm", "new-task", "sums_of_three")
    assert again.returncode == 2
    assert "sums_of_three.yaml" in again.stderr


@pytest.mark.parametrize("name", ["json", "sharpen", "two words", "../evil", "class", "9lives", "Upper", ""])
def test_names_that_cannot_be_a_new_module_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="name: got"):
        check(name)
