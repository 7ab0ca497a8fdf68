"""The measures of the dial's models in docs/dial.md, as a table and a figure, from those that come with the package.

    python docs/site/dial.py

A test compares the page with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pages import write

from sharpen.figures.llm.dial import dial_table, plot_dial

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "dial.md",)
FIGURE = ROOT / "docs" / "images" / "dial.png"


def measures() -> dict[str, Any]:
    """Return what each model was measured to be."""
    return json.loads((ROOT / "llm" / "tiny" / "dial_models" / "measures.json").read_text(encoding="utf-8"))


TABLES: Mapping[str, Callable[[], str]] = {"dial": lambda: dial_table(measures())}


if __name__ == "__main__":
    write(PAGES, TABLES)
    plot_dial(measures(), FIGURE)
