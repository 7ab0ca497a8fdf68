"""Every program in docs/extending.md that is a file, with the commands below it, as a reader would run them."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.forked import Forks

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
SMALL = {  # the same commands with fewer and smaller steps
    ("llm", "train"): (
        "--steps 2 --prompts-per-step 2 --samples-per-prompt 2 --eval-problems 2 --eval-samples 2 "
        "--set evaluation.alpha_prompts=0 --set problems=64 --engine transformers --out run"
    ),
    ("llm", "eval"): "--problems 2 --engine transformers --out run",
    ("toy", "simulate"): "--steps 20 --seeds 2",
    ("toy", "sweep"): "--steps 20 --seeds 2",
    ("toy", "phase"): "--json",
}
# A section's commands one after the other in a process that is new for the section.
RUN = """
import json, os, sys
from pathlib import Path
from sharpen.cli.main import main
from tests.llm.distributed.forks import apart

def live(folder, lines):
    os.chdir(folder)
    for line in lines:
        print(*line, file=sys.stderr)
        try:
            main(line)
        except SystemExit as ended:
            if ended.code:
                raise

statuses = []
for folder, lines in json.loads(sys.argv[1]):
    files = (Path(folder) / name for name in ("said.txt", "errors.txt"))
    statuses.append(apart(lambda: live(folder, lines), *files))
print(json.dumps(statuses))
"""


class Ran(NamedTuple):
    """How a section's commands ended."""

    lines: list[list[str]]
    status: int
    said: str
    errors: str


def sections() -> dict[str, tuple[dict[str, str], list[list[str]]]]:
    """Return the files and the commands of each section that has files."""
    found = {}
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title = text.partition("\n")[0]
        files = {m[1]: m[0] for m in re.finditer(r"(?<=```python\n)# (\w+\.py)\n.*?(?=```)", text, re.DOTALL)}
        commands = [shlex.split(line) for line in re.findall(r"^    sharpen (.*)$", text, re.MULTILINE)]
        if files:
            found[title] = (files, commands)
    return found


def test_the_page_shows_every_door() -> None:
    titles = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    doors = ["reward", "task", "template", "learner", "sampler", "tracker", "learner of the toy"]
    assert {f"A {door}" for door in doors} <= set(titles)
    assert {"A reward", "A task", "A template", "A learner", "A learner of the toy"} <= sections().keys()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, model_forks: Forks) -> dict[str, Ran]:
    """Run every section, each in a folder of its own that holds its files."""
    todo: list[tuple[Path, list[list[str]]]] = []
    for files, commands in sections().values():
        folder = tmp_path_factory.mktemp("section")
        for name, text in files.items():
            (folder / name).write_text(text)
        lines: list[list[str]] = []
        for number, command in enumerate(commands):
            small = shlex.split(SMALL[command[0], command[1]].replace("--out run", f"--out run{number}"))
            lines.append([*command, *small])
        todo.append((folder, lines))
    asked = json.dumps([(str(folder), lines) for folder, lines in todo])
    done = model_forks.run(RUN, asked, environment=os.environ)
    assert done.returncode == 0, done.stderr
    return {
        title: Ran(lines, status, (folder / "said.txt").read_text(), (folder / "errors.txt").read_text())
        for title, (folder, lines), status in zip(sections(), todo, json.loads(done.stdout), strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("title", sections())
def test_the_program_runs(title: str, ran: dict[str, Ran]) -> None:
    lines, status, said, errors = ran[title]
    assert lines
    assert status == 0, f"{said}\n{errors}"
    asked = [" ".join(words) for words in lines]
    assert [line for line in errors.splitlines() if line in asked] == asked
