"""The notebooks run from the top, in a fresh process, and print what they are committed with."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sharpen.llm.models import packaged, store

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# By results, processors and the model that is to be had: only that they run is checked.
SAMPLED = ("figure-one", "forecast-and-audit", "your-own-task-and-reward")
# Of the one that trains a real model, where there is one: fewer problems, samples and steps, for which that is as good.
SMALLER = {
    "forecast-and-audit": {
        "model, 8, data": "model, 3, data",
        "before, 8, data": "before, 3, data",
        "problems=8": "problems=3",
        "samples=12": "samples=5",
        "budget=40": "budget=8",
        '"steps": 5, "prompts_per_step": 4, "samples_per_prompt": 4': (
            '"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2'
        ),
    }
}


@pytest.fixture(scope="module")
def runner() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "site" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    return ["".join(one.get("text") or one["data"]["text/plain"]) for one in outputs]


def smaller(file: Path, folder: Path) -> Path:
    """Return a copy with the smaller sizes, each of which the notebook has to name; itself where none are known.

    Where the cache has no other, it takes the embedded model, which is quick and learns nothing from a few samples.
    """
    if file.stem not in SMALLER:
        return file
    text = file.read_text(encoding="utf-8")
    for words, fewer in SMALLER[file.stem].items():
        given, put = json.dumps(words)[1:-1], json.dumps(fewer)[1:-1]
        assert given in text, words
        text = text.replace(given, put)
    if not store.is_ready(packaged.SMOLLM2.location):
        return file
    copy = folder / file.name
    copy.write_text(text, encoding="utf-8")
    return copy


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched into a person's cache: a notebook finds there the model that it asks for, or takes another."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.mark.usefixtures("no_index")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_prints_what_it_is_committed_with(file: Path, runner: Any, tmp_path: Path) -> None:
    notebook = json.loads(file.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["cells"][0]["cell_type"]) == (4, "markdown")
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    cells = runner.cells_of(notebook)
    found = runner.run(smaller(file, tmp_path))
    assert len(found) == len(cells)
    for cell, outputs in zip(cells, found, strict=True):
        kept = cell["outputs"]
        assert [one["output_type"] for one in outputs] == [one["output_type"] for one in kept]
        assert [one.get("data", {}).keys() for one in outputs] == [one.get("data", {}).keys() for one in kept]
        if file.stem not in SAMPLED:
            assert texts(outputs) == texts(kept)


def test_every_notebook_is_on_the_page() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert NOTEBOOKS
    for file in NOTEBOOKS:
        assert f"(notebooks/{file.name})" in page


def test_a_cell_that_fails_is_told(tmp_path: Path, runner: Any) -> None:
    cells = [{"cell_type": "code", "source": ["1 / 0"], "outputs": []}]
    (tmp_path / "wrong.ipynb").write_text(json.dumps({"cells": cells}))
    with pytest.raises(RuntimeError, match=r"(?s)wrong\.ipynb.*ZeroDivisionError"):
        runner.run(tmp_path / "wrong.ipynb")


def test_outputs_are_printed_text_then_the_last_value(runner: Any) -> None:
    first, second = runner.run_cells(["x = 2\nprint('two')\nx * 21", "y = x"])
    assert texts(first) == ["two\n", "42"]
    assert second == []
