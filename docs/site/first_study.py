"""The table of docs/paper.md: what the report on the embedded model's grid says of each claim.

    sharpen paper report
    python docs/site/first_study.py

A test compares the page with what this writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pages import write
from reports import claims

PAGES = (Path(__file__).resolve().parents[2] / "docs" / "paper.md",)
TABLES: Mapping[str, Callable[[], str]] = {"embedded-claims": partial(claims, "embedded")}


if __name__ == "__main__":
    write(PAGES, TABLES)
