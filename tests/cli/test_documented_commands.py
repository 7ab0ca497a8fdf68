"""Every command that a page shows exists, with each option that it is given."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharpen.cli.main import app, tree

ROOT = Path(__file__).parents[2]
PAGES = sorted(file for file in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md") if file.name != "commands.md")
SHOWN = re.compile(r"^(?:    |\$ )(?:[A-Z_]+=\S+ )*(sharpen .+)$")


def commands(page: Path) -> list[list[str]]:
    """Return the words of each shown command, lines that end in a backslash joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [found[1] for line in text.splitlines() if (found := SHOWN.match(line))]
    return [shlex.split(line, comments=True) for line in lines if "…" not in line]


def missing(words: list[str]) -> list[str]:
    """Return what a command names and the program does not have."""
    command: Any = tree()
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        found = command.commands.get(rest[0])
        if found is None:
            return [rest[0]]
        command, rest = found, rest[1:]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    given = []
    for word in rest:
        if word in ("|", ">", "&&", ";"):
            break
        if word.startswith("--"):
            given.append(word.partition("=")[0])
    return [option for option in given if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_page_are_there(page: Path) -> None:
    assert {" ".join(words): gone for words in commands(page) if (gone := missing(words))} == {}


def test_what_is_not_there_is_seen() -> None:
    assert missing(["sharpen", "llm", "train", "--steps", "3", "--stepps", "3"]) == ["--stepps"]
    assert missing(["sharpen", "llm", "trian"]) == ["trian"]
    assert missing(["sharpen", "theory", "fixed-points", "--alpha=2", "--json", "|", "jq", "--raw"]) == []


def test_the_pages_show_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 50


def test_the_demonstration_asks_for_runs_that_are_allowed() -> None:
    """The commands that ``make demo-real`` runs for ten minutes: their settings are refused here, not there."""
    shown = subprocess.run(
        ["make", "-n", "-o", ".venv/ready", "demo-real", "BIN=bin"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    trained = [line.partition("bin/sharpen ")[2] for line in shown.splitlines() if "sharpen llm train" in line]
    assert len(trained) == 2
    for line in trained:
        words = shlex.split(line.replace("--model smollm2", "--model embedded"))
        told = CliRunner().invoke(app, [*words, "--dry-run"])
        assert told.exit_code == 0, told.output
