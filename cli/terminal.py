"""How the commands print: one console and one style of table. rich is imported where something is printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def plain_console(*, width: int | None = None, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console that prints text as it is: no colours guessed from numbers, no markup in brackets."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=width, stderr=stderr, soft_wrap=soft_wrap)


def plain_table() -> Table:
    """Return a table without columns, with a rule below its headings and no other lines."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def number_table(columns: Iterable[str]) -> Table:
    """Return a table whose first column holds names and whose others hold numbers, none of them wrapped."""
    table = plain_table()
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table
