"""The tables of docs/real-study.md and README.md from the report of the study on a real model.

    sharpen paper report --scale real
    python docs/site/real_study.py

A test compares the pages with what this writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pages import table, write
from reports import claims, rows

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "real-study.md", ROOT / "README.md")
ARMS = {
    "base": "base",
    "tempered-1-0": "null control (alpha 1)",
    "tempered-2-0": "tempered, alpha 2",
    "tempered-4-0": "tempered, alpha 4",
    "sharpening-1-0": "sharpening, sum",
    "sharpening-1-0-mean": "sharpening, mean",
    "tilted-2-100": "tilted (alpha 2, beta_inv 100)",
    "task-reward-0-1": "task reward",
}
BASE = {
    "AUC": "AUC",
    "Corr(r, log p)": "Corr(r, log p)",
    "pass@1": "pass@1",
    "pass@16": "pass@16",
    "maj@16": "maj@16",
    "greedy": "greedy",
    "forecast@2": "forecast, alpha 2",
    "forecast@4": "forecast, alpha 4",
}


def base() -> str:
    """Return what is known of each task before anything is trained."""
    body = []
    for row in rows("real", "tasks"):
        numbers = [f"{float(row[name]):.2f}" for name in BASE]
        body.append([row["task"], row["kind"], *numbers])
    return table(["task", "kind", *BASE.values()], body)


def measured(measure: str, digits: int, interval: bool = True) -> Callable[[], str]:
    """Return the writer of a table of one measure: arms down, tasks across."""

    def written() -> str:
        found: dict[str, dict[str, str]] = {}
        for row in rows("real", "measures"):
            if row["measure"] == measure:
                mean, low, high = (f"{float(row[name]):.{digits}f}" for name in ("mean", "low", "high"))
                found.setdefault(row["arm"], {})[row["task"]] = f"{mean} [{low}, {high}]" if interval else mean
        tasks = [row["task"] for row in rows("real", "tasks")]
        body = [[title, *(found[arm].get(task, "") for task in tasks)] for arm, title in ARMS.items() if arm in found]
        return table(["arm", *tasks], body)

    return written


TABLES: Mapping[str, Callable[[], str]] = {
    "base": base,
    "pass@1": measured("pass@1", 2),
    "pass@16": measured("pass@16", 2),
    "maj@16": measured("maj@16", 2, interval=False),
    "greedy": measured("greedy", 2, interval=False),
    "response_length": measured("response_length", 1, interval=False),
    "entropy": measured("entropy", 2, interval=False),
    "claims": partial(claims, "real"),
}


if __name__ == "__main__":
    write(PAGES, TABLES)
