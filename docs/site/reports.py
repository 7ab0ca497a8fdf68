"""What the pages on studies read of a report: its tables, and its verdicts as a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from pages import table

RESULTS = Path(__file__).resolve().parents[2] / "paper_repro" / "results"
OUTCOMES = ("supported", "contradicted", "undecided", "refused")


def rows(scale: str, name: str) -> list[dict[str, str]]:
    """Return the rows of a table of a scale's report."""
    with (RESULTS / scale / "report" / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def claims(scale: str) -> str:
    """Return each registered claim with its outcome and the outcomes of its tests."""
    body = []
    for verdict in json.loads((RESULTS / scale / "report" / "verdicts.json").read_text(encoding="utf-8")):
        found = [part["outcome"] for part in verdict["parts"]]
        counts = [f"{found.count(one)} {one}" for one in OUTCOMES if one in found]
        body.append([f"`{verdict['claim']}`", verdict["statement"], verdict["outcome"], ", ".join(counts)])
    return table(["claim", "statement", "outcome", "of its tests"], body)
