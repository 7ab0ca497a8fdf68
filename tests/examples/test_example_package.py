"""The example package, installed as a user's package is, trains with a part of its own behind every door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sharpen-example"


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the interpreter of a fresh environment that sees this one's packages, and sharpen by its own .pth file."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    found = place / "bin" / "python"
    site = Path(run(str(found), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=place).strip())
    own = ROOT / ".pyright"
    (site / "test.pth").write_text(f"{own}\n{sysconfig.get_paths()['purelib']}\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    copy = place / "source"
    for file in EXAMPLE.rglob("*"):
        if file.is_file() and file.suffix in (".py", ".toml", ".yaml", ".md"):
            target = copy / file.relative_to(EXAMPLE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    run(*pip, "--no-build-isolation", "--target", str(site), str(copy), cwd=place)
    return str(found)


@pytest.mark.slow
def test_it_trains_for_a_few_steps(python: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [python, "-m", "sharpen.cli.main", "llm", "train", "--config", str(EXAMPLE / "run.yaml")]
    run(*command, "--engine", "transformers", "--out", str(out), "--json", cwd=tmp_path)
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    table = (out / "steps.csv").read_text().splitlines()
    assert table[0] == "step,kl_ref,pseudo_reward,entropy"
    assert [int(row.split(",")[0]) for row in table[1:]] == [step["step"] for step in steps]
    assert len(steps) == 3
    parts = json.dumps(json.loads((out / "provenance.json").read_text()))
    for module in ("rewards", "learners", "trackers"):
        assert f"sharpen_example.{module}" in parts
    assert json.loads((out / "evaluation.json").read_text())["base"]["problems"] == 8


@pytest.mark.slow
def test_an_unknown_name_lists_those_that_the_package_added(python: str, tmp_path: Path) -> None:
    command = [python, "-m", "sharpen.cli.main", "llm", "train", "--learner", "example-soft", "--steps", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "example-softened" in done.stderr
    assert "rloo" in done.stderr
