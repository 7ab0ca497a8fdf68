"""The command line's frame: help, usage errors, start-up and the generated reference."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sharpen.cli.main import main

ROOT = Path(__file__).parents[2]


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(list(arguments))
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.mark.parametrize("arguments", [["--help"], ["theory", "--help"], ["llm", "train", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    printed = capsys.readouterr()
    assert printed.out == f"sharpen {version('sharpen-rl')}\n"
    assert printed.err == ""


def test_a_shell_completes_commands_and_flags() -> None:
    def completed(*words: str) -> list[str]:
        asked = {"_SHARPEN_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        command = [str(Path(sys.executable).with_name("sharpen"))]
        return subprocess.run(command, env=os.environ | asked, capture_output=True, text=True).stdout.split()

    assert completed("sharpen", "t") == ["theory", "toy"]
    assert "--alpha" in completed("sharpen", "theory", "fixed-points", "--al")


@pytest.mark.parametrize("arguments", [[], ["theory"], ["toy"], ["llm"], ["figures"]])
def test_no_command_prints_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == 2
    printed = capsys.readouterr()
    assert "Usage" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["theory", "nope"],
        ["theory", "fixed-points", "--nope"],
        ["toy", "simulate", "--steps", "x"],
        ["figures", "backends"],
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only InputError and pydantic's errors are input; a plain ValueError keeps its traceback."""

    def break_down(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("sharpen.theory.core.problem.parse_problem", break_down)
    with pytest.raises(ValueError, match="a defect"):
        main(["theory", "fixed-points"])


@pytest.mark.parametrize("arguments", [["--help"], ["llm", "train", "--help"], ["llm", "train", "--alpha", "nan"]])
def test_nothing_heavy_is_imported_before_the_settings_are_valid(arguments: list[str]) -> None:
    code = f"""
import sys
from sharpen.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
print("heavy:", sorted({{"torch", "jax", "transformers", "vllm", "matplotlib", "scipy"}} & set(sys.modules)))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "heavy: []"


def test_help_imports_neither_numbers_nor_the_objective() -> None:
    """The package and its rooms name what is public without importing it."""
    code = "import sys, sharpen.cli.main; print(sorted({'numpy', 'pydantic', 'importlib.metadata'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_the_command_reference_is_up_to_date(tmp_path: Path) -> None:
    """`make docs` writes it."""
    fresh = tmp_path / "commands.md"
    typer = str(Path(sys.executable).with_name("typer"))
    command = [typer, "sharpen.cli.main", "utils", "docs", "--name", "sharpen", "--output", str(fresh)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert (ROOT / "docs" / "commands.md").read_text() == fresh.read_text()


def test_figures_from_folders_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("figures", "backends", "--toy", str(tmp_path), "--llm", str(tmp_path)) == 2
    assert "toy folder: got" in capsys.readouterr().err
