"""Files and modules that prose, comments and the Makefile name are there: a move leaves no stale name behind."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("objective", "theory", "toy", "llm", "figures", "paper_repro", "cli")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "docs", "examples")
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "CHANGELOG.md"]
SOURCES = [file for folder in (*PACKAGES, "benchmarks", "examples") for file in sorted((ROOT / folder).rglob("*.py"))]
TEXTS = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "Makefile", "pyproject.toml")),
    *sorted((ROOT / "tests/mutation/changes").glob("*.toml")),
    *(file for file in sorted((ROOT / "examples").rglob("*")) if file.suffix in (".md", ".toml", ".yaml")),
    *SOURCES,
]
FILE = re.compile(rf"(?<![\w/.<*-])((?:{'|'.join(FOLDERS)})(?:/[\w.*-]+)+\.(?:py|md|toml|ya?ml|jsonl?|txt|html|png))\b")
FOLDER = re.compile(rf"`((?:{'|'.join(FOLDERS)})(?:/[\w-]+)+)/?`")
DOTTED = re.compile(r"(?<![\w.])sharpen((?:\.[A-Za-z_]\w*)+)")
BARE = re.compile(r"(?<![\w/.*-])([a-z_]\w*\.py)\b")
OUTPUTS = ("benchmarks/results/",)  # written by a command
KINDS = ("learner", "reward", "sampler", "task", "template", "tracker")
NOT_FILES = {"objective/learner"}  # a key of a table
NOT_MODULES = {"sharpen.config", *(f"sharpen.{kind}s" for kind in KINDS)}  # a key of a file; groups of entry points
PLACEHOLDER = re.compile("[A-Z]{3}|my_|mine")  # in what a page tells its reader to write


def stale_files(text: str) -> set[str]:
    """Return the paths from the root, or from tests/, at which nothing is."""
    named = {match[1] for match in FILE.finditer(text)} | {match[1] for match in FOLDER.finditer(text)}
    gone = {name for name in named - NOT_FILES if not any(any(ROOT.glob(f"{at}{name}")) for at in ("", "tests/"))}
    return {name for name in gone if not name.startswith(OUTPUTS) and not PLACEHOLDER.search(name)}


def stale_modules(text: str) -> set[str]:
    """Return the dotted names below ``sharpen`` that are no module, and no name in one."""
    return {name for match in DOTTED.finditer(text) if (name := match[0]) not in NOT_MODULES and not is_there(name)}


def stale_names(text: str) -> set[str]:
    """Return the names of Python files of which there is none, in any folder."""
    programs = set(re.findall(r"^# (\w+\.py)$", text, re.MULTILINE))  # that a page prints
    named = {name for match in BARE.finditer(text) if not PLACEHOLDER.search(name := match[1])}
    return named - programs - python_files()


@cache
def python_files() -> set[str]:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    return {file.name for file in files}


@cache
def is_there(name: str) -> bool:
    parts = name.split(".")[1:]
    for end in range(len(parts), -1, -1):
        place = ROOT.joinpath(*parts[:end]) if end else ROOT / ".pyright" / "sharpen"
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return end == len(parts) or parts[end] in names_in(file)
    return False


@cache
def names_in(file: Path) -> set[str]:
    """Return what a module defines or imports, also for type checkers only, as packages list what they pass on."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("check", [stale_files, stale_modules, stale_names])
def test_what_is_named_is_there(check: object) -> None:
    assert callable(check)
    found = {file.relative_to(ROOT).as_posix(): check(file.read_text(encoding="utf-8")) for file in TEXTS}
    assert {file: names for file, names in found.items() if names} == {}


def test_the_checks_can_fail() -> None:
    assert stale_files(
        "see llm/trainer.py, figures/paper_*.py, figures/paper/*.py, `toy/nowhere` and `toy/studies/`"
    ) == {
        "figures/paper_*.py",
        "llm/trainer.py",
        "toy/nowhere",
    }
    assert stale_modules("sharpen.llm.trainer, sharpen.llm.training.trainer and sharpen.toy.nothing:x") == {
        "sharpen.llm.trainer",
        "sharpen.toy.nothing",
    }
    assert stale_modules("sharpen.Objective, sharpen.theory.optimum, sharpen.llm.training.run.train") == set()
    assert stale_names("trainer.py, not trainers.py") == {"trainers.py"}
