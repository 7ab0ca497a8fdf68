"""`sharpen doctor`: what is here, and what a run would still need."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sharpen.cli.main import main
from sharpen.llm.configs.train import resolve
from sharpen.llm.models.registry import DIAL, REGISTRY
from sharpen.llm.preflight import doctor, inventory
from sharpen.llm.tasks.sources import HUB
from sharpen.objective.storage import runfolder


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exited:
        main(["doctor", *arguments])
    printed = capsys.readouterr()
    assert isinstance(exited.value.code, int)
    return exited.value.code, printed.out, printed.err


def test_it_names_every_model_and_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = asked(capsys, "--json")
    told = json.loads(out)
    assert status == 0
    assert {one["name"] for one in told["models"]} == {"embedded", *REGISTRY, *DIAL}
    assert {one["name"] for one in told["data"]} == {"embedded", "dial", *HUB}
    assert told["models"][0]["here"]
    base = {one["name"]: one for one in told["packages"]["base"]}
    assert base["numpy"] == {"name": "numpy", "here": True, "note": metadata.version("numpy")}
    assert {"base", "llm", "dev"} <= told["packages"].keys()
    assert told["machine"]["cores"] >= 1


def test_what_is_not_here_comes_with_the_command_that_gets_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "is_cached", lambda location: False)
    monkeypatch.setattr(doctor, "_data_is_cached", lambda location: False)
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy>=2", 'no-such-thing<3; extra == "wandb"'])
    _, out, _ = asked(capsys)
    assert "hf download Qwen/Qwen2.5-3B-Instruct" in out
    assert "hf download --repo-type dataset openai/gsm8k" in out
    assert "without no-such-thing: pip install '.[wandb]'" in out


@pytest.mark.parametrize("kind", ["model", "file", "folder"])
def test_a_run_that_has_all_it_needs(kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "embedded"
    if kind == "file":
        file = tmp_path / "run.yaml"
        file.write_text("model: embedded\nsteps: 3\n")
        name = str(file)
    elif kind == "folder":
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / runfolder.CONFIG).write_text(json.dumps(resolve({"steps": 3}).model_dump(mode="json")))
        name = str(folder)
    status, out, _ = asked(capsys, name)
    assert status == 0
    assert f"{name} has all that it needs here" in out


def test_a_run_that_lacks_something_says_what_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"model: embedded\ndata: {tmp_path / 'none.jsonl'}\n")
    status, out, _ = asked(capsys, str(file), "--json")
    (line,) = json.loads(out)["run"]["missing"]
    assert status == 1
    assert "none.jsonl" in line


def test_a_name_that_stands_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = asked(capsys, "nope")
    assert (status, out) == (2, "")
    assert err.startswith("error: run: got 'nope', allowed: a run folder")
    assert err.count("\n") == 1


def test_without_the_packages_of_language_models_it_still_answers(tmp_path: Path) -> None:
    """As in the base install: torch, transformers and datasets cannot be found."""
    hidden = ("torch", "transformers", "datasets", "huggingface_hub", "safetensors", "math_verify")
    script = f"""
import importlib.util, sys
from importlib.abc import MetaPathFinder
class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {hidden!r} else find(name, package)
sys.meta_path.insert(0, Hide())
from sharpen.cli.main import main
main(["doctor", "embedded"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "GPU unknown: torch is not installed" in done.stdout
    assert "the package torch: pip install '.[llm]'" in done.stdout
