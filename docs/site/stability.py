"""The tables and the figure of docs/stability.md on language models, from committed results.

    python docs/site/stability.py

A test compares the page with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pages import table, write

from sharpen.figures.llm.stability import (
    AFTER,
    LATER,
    dial_rows,
    embedded_rows,
    plot_stability,
    real_rows,
    stability_rows,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "stability.md",)
FIGURE = ROOT / "docs" / "images" / "stability-null.png"
RESULTS = ROOT / "paper_repro" / "results"


def runs() -> dict[str, Any]:
    """Return the runs of benchmarks/llm/stability.py."""
    return json.loads((ROOT / "benchmarks/results/stability.json").read_text(encoding="utf-8"))["runs"]


def _results(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob(pattern))]


def _runs(model: str) -> str:
    after = [f"KL after {updates}" for updates in AFTER[model]]
    return table(["alpha", "optimizer", "seeds", *after, "step per advantage"], stability_rows(runs(), model))


def first_study() -> list[dict[str, Any]]:
    """Return the null control's and p^2's runs of the first study, both lengths."""
    arms = [f"embedded/tempered-{alpha}-0{end}-s*.json" for alpha in (1, 2) for end in ("", "-fixed")]
    return [each for pattern in arms for each in _results(pattern)]


def _embedded() -> str:
    head = ["length", "alpha", "seeds", *(f"KL after {updates}" for updates in LATER), "KL after 59"]
    return table(head, embedded_rows(first_study()))


def _dial() -> str:
    head = ["epsilon", "rate", "alpha 1: largest KL", "alpha 2: KL at the end"]
    return table(head, dial_rows(_results("dial/search-*.json")))


def _real() -> str:
    return table(["task", "seeds", "largest KL", "KL at the end"], real_rows(_results("real/*-tempered-1-0-s*.json")))


TABLES: Mapping[str, Callable[[], str]] = {
    "stability": partial(_runs, "embedded"),
    "stability-smollm2": partial(_runs, "smollm2"),
    "stability-first": _embedded,
    "stability-dial": _dial,
    "stability-real": _real,
}


if __name__ == "__main__":
    write(PAGES, TABLES)
    plot_stability(first_study(), FIGURE)
