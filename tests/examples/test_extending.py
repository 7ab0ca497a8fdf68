"""Every program in docs/extending.md that is a file, with the commands below it, as a reader would run them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
SMALL = {  # the same commands with fewer and smaller steps
    ("llm", "train"): (
        "--steps 2 --prompts-per-step 2 --samples-per-prompt 2 --eval-problems 2 --eval-samples 2 "
        "--set evaluation.alpha_prompts=0 --engine transformers --out run"
    ),
    ("llm", "eval"): "--problems 2 --engine transformers --out run",
    ("toy", "simulate"): "--steps 20 --seeds 2",
    ("toy", "sweep"): "--steps 20 --seeds 2",
    ("toy", "phase"): "--json",
}
# A section's commands one after the other in a process that is new for the section: most of what a command takes that
# makes two steps is the import of torch and transformers.
RUN = """
import json, sys
from sharpen.cli.main import main

for line in json.loads(sys.argv[1]):
    print(*line, file=sys.stderr)
    try:
        main(line)
    except SystemExit as ended:
        if ended.code:
            raise
"""


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


@pytest.mark.slow
@pytest.mark.parametrize("title", sections())
def test_the_program_runs(title: str, tmp_path: Path) -> None:
    files, commands = sections()[title]
    assert commands
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    lines = []
    for number, command in enumerate(commands):
        small = shlex.split(SMALL[command[0], command[1]].replace("--out run", f"--out run{number}"))
        lines.append([*command, *small])
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert [line for line in done.stderr.splitlines() if line in {" ".join(words) for words in lines}] == [
        " ".join(words) for words in lines
    ]
