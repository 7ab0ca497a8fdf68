"""The table of docs/samplers.md on right mass and votes, from committed results.

    python docs/site/votes.py

A test compares the page with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from pages import table, write

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "samplers.md",)
RESULT = ROOT / "benchmarks" / "results" / "votes.json"


def votes() -> str:
    """Return one row per task, pair of exponents and size of the vote."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))["tasks"]
    body = []
    for task, own in found.items():
        for row in own["counts"]:
            low, high = row["share_interval"]
            body.append(
                [
                    f"`{task}`",
                    f"{row['from']:g} → {row['to']:g}",
                    str(row["k"]),
                    f"{row['mass_up']} of {row['problems']}",
                    f"{row['mass_up_vote_down']}, share [{low:.2f}, {high:.2f}]",
                    str(row["mass_down_vote_up"]),
                    str(row["undecided"]),
                ]
            )
    head = ["task", "alpha", "k", "mass rises", "and maj@k falls", "mass falls, maj@k rises", "undecided"]
    return table(head, body)


TABLES: Mapping[str, Callable[[], str]] = {"votes": votes}


if __name__ == "__main__":
    write(PAGES, TABLES)
