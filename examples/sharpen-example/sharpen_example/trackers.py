"""A tracker that keeps a table of a few numbers, one row a step."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("step", "kl_ref", "pseudo_reward", "entropy")


class Table:
    """One CSV file a run.

    Args:
        file: Its name in the run folder.
    """

    def __init__(self, file: str = "steps.csv") -> None:
        self.name = file

    def start(self, config: Mapping[str, Any], folder: Path, resumed_from_step: int) -> None:
        """Open the table; a run that goes on keeps the rows of the steps that its checkpoint has."""
        path = folder / self.name
        kept = path.read_text().splitlines()[: resumed_from_step + 1] if path.exists() and resumed_from_step else []
        self.file = path.open("w", newline="")
        self.file.writelines(line + "\n" for line in kept or [",".join(COLUMNS)])
        self.rows = csv.writer(self.file, lineterminator="\n")

    def log(self, step: int, numbers: Mapping[str, Any], samples: Any) -> None:
        """Write one row."""
        self.rows.writerow([step, *(numbers.get(name) for name in COLUMNS[1:])])
        self.file.flush()

    def finish(self) -> None:
        """Close the table."""
        self.file.close()
