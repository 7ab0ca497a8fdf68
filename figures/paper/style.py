"""What the paper's figures share: width, colours and marks of arms, and files written together with their data.

A figure is a :class:`PaperFigure`: drawn once, written as PDF and PNG, with its numbers as CSV and its caption as text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.figures.style import BASE_COLOR, DOTS_PER_INCH, REGIME_COLORS, paper_style, save_figure
from sharpen.objective.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.4  # inches: a single column of a two-column page
SAMPLING_COLOR = "#56B4E9"
MARKS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1)), (0, (3, 1, 1, 1)))
Row = Mapping[str, Any]


class MissingDataError(Exception):
    """The results that a figure claims to show are not there."""


@dataclass(frozen=True)
class PaperFigure:
    """A figure with its data and caption.

    Args:
        name: Of its files.
        figure: Drawn.
        rows: The numbers in it.
        caption: What it shows, with n, seeds and interval.
        runs: Ids of the results that it shows.
    """

    name: str
    figure: Figure
    rows: Sequence[Row]
    caption: str
    runs: Sequence[str]

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG, drawn once for the folder and the page."""
        picture = io.BytesIO()
        with paper_style():
            self.figure.savefig(picture, format="png", dpi=DOTS_PER_INCH, metadata={})
        return picture.getvalue()

    def save(self, folder: Path) -> list[Path]:
        """Write ``name.pdf``, ``name.png``, ``name.csv`` and ``name.txt`` (the caption) and return the paths."""
        with paper_style():
            vector = save_figure(self.figure, folder / f"{self.name}.pdf")
        picture = folder / f"{self.name}.png"
        files.write(picture, self.png, "figure file")
        table, caption = folder / f"{self.name}.csv", folder / f"{self.name}.txt"
        write_csv(table, self.rows)
        files.write(caption, self.caption + "\n", "figure file")
        return [vector, picture, table, caption]


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV, columns in the order of their first appearance, numbers with six digits."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with files.replacing(file) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({n: f"{x:.6g}" if isinstance(x, float) else x for n, x in row.items()})


def need(found: object, what: str) -> None:
    """Refuse to draw without the data.

    Raises:
        MissingDataError: ``found`` is empty or None.
    """
    if not found:
        raise MissingDataError(what)


def color_of(regime: str) -> str:
    """Return the colour of a regime; ``base`` and ``sampling`` have their own."""
    return {"base": BASE_COLOR, "sampling": SAMPLING_COLOR, **REGIME_COLORS}.get(regime, BASE_COLOR)


def label_of(name: str) -> str:
    """Return an arm's name for reading.

    Example:
        >>> label_of("tempered-2-0-fixed"), label_of("task-reward-0-1"), label_of("tilted-1-100")
        ('tempered, α 2, fixed', 'task reward', 'tilted, α 1, β⁻¹ 100')
    """
    words = {"task-reward": "task reward", "low-temperature": "low temperature", "best-of": "best of"}
    for known in ("task-reward-likelihood", "task-reward", "sharpening", "tempered", "tilted"):
        if name.startswith(f"{known}-"):
            alpha, beta_inv, *rest = name.removeprefix(f"{known}-").split("-")
            parts = [words.get(known, known)]
            if known in ("tempered", "tilted"):
                parts.append(f"α {alpha}")
            if known == "tilted":
                parts.append(f"β⁻¹ {beta_inv}")
            return ", ".join(parts + [part.replace("_", " ") for part in rest])
    for known in ("power", "low-temperature"):
        if name.startswith(f"{known}-"):
            return f"{words.get(known, known)}, α {name.removeprefix(f'{known}-')}"
    return name.replace("best-of-", "best of ")
