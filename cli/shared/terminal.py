"""How the commands print: one way to print a line, one console, one style of table.

Much of what is printed was written by others: problems, responses, answers, names of files and data sets, messages of
libraries. It must not command the terminal (colours, titles, moved cursors) nor show other text than there is
(overrides of the direction of writing, invisible characters). So every command prints by :func:`say` or by a console of
:func:`plain_console`, which pass all text through :func:`printable`. rich is imported where something is printed.
"""

from __future__ import annotations

import sys
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table


# Controls (Cc), formats (Cf: directions, zero widths, tags), halves of characters, separators of lines and paragraphs.
_COMMANDS = ("Cc", "Cf", "Cs", "Zl", "Zp")
LEAST = 12  # columns in which a cell that may be wrapped can still be read
_JOINERS = "\u200c\u200d"  # formats that several scripts are written with


def printable(text: str, keep: str = "\n\t") -> str:
    r"""Return a text in which nothing commands a terminal: such characters become their escapes.

    Args:
        text: Any text.
        keep: Controls that stay.

    Example:
        >>> printable("a\x1b[31mb\u202ec")
        'a\\x1b[31mb\\u202ec'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _harmless(char, keep) else _escaped(char) for char in text)


def _harmless(char: str, keep: str) -> bool:
    return char in keep or char in _JOINERS or unicodedata.category(char) not in _COMMANDS


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def say(*values: object, sep: str = " ", end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print as ``print`` does, with every value made :func:`printable`."""
    print(*(printable(str(value)) for value in values), sep=sep, end=end, file=file or sys.stdout, flush=flush)


def plain_console(*, width: int | None = None, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console that prints text as it is: no colours guessed from numbers, no markup, nothing that commands.

    A table that is wider than the terminal is printed as one paragraph per row, ``heading value; heading value``: rich
    would cut cells and drop columns.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class Plain(Console):
        """Makes every string printable where rich turns it into text: arguments, titles, cells of tables."""

        def render_str(self, text: str, **options: object) -> Text:  # type: ignore[override]
            return super().render_str(printable(text), **options)  # type: ignore[arg-type]

        def print(self, *objects: Any, **options: Any) -> None:
            fitting = (_fitting(one, self) if isinstance(one, Table) else one for one in objects)
            super().print(*fitting, **options)

    return Plain(highlight=False, markup=False, width=width, stderr=stderr, soft_wrap=soft_wrap)


def introduce(text: str) -> None:
    """Print in words what the lines below show, and a blank line."""
    console = plain_console()
    console.print(text)
    console.print()


def _fitting(table: Table, console: Console) -> Any:
    """Return the table, or its rows as paragraphs where only cutting would make it as narrow as the terminal."""
    wide = console.options.update(max_width=10**6)
    widths = [[console.measure(cell, options=wide) for cell in (one.header, *one.cells)] for one in table.columns]
    longest = sum(max(width.maximum for width in column) for column in widths)
    least = sum(
        max(width.maximum if one.no_wrap else min(width.minimum, LEAST) for width in column)
        for one, column in zip(table.columns, widths, strict=True)
    )
    for column in table.columns:  # a word that is longer than its column goes on in the next line
        column.overflow = "fold"
    spaces = console.measure(table, options=wide).maximum - longest
    return table if least + spaces <= console.width else _paragraphs(table, console, wide)


def _paragraphs(table: Table, console: Console, wide: ConsoleOptions) -> Any:
    """Return the rows of a table as paragraphs, each with the headings of its cells."""
    from rich.console import Group

    def text(cell: Any) -> str:
        return " ".join("".join(part.text for part in console.render(cell, wide)).split())

    headings = [text(column.header) for column in table.columns]
    lines: list[Any] = [] if table.title is None else [table.title]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        named = [f"{name} {cell}".strip() for name, cell in zip(headings, map(text, row), strict=True) if cell]
        lines += textwrap.wrap("; ".join(named), console.width, subsequent_indent="  ", break_on_hyphens=False)
    return Group("", *lines, "")


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
