"""Tables between two comments of a page, ``<!-- table: NAME -->`` and ``<!-- end -->``, written by code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with each of its tables that ``tables`` has written anew."""
    block = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)

    def written(found: re.Match[str]) -> str:
        return f"{found[1]}{tables[found[2]]()}\n{found[3]}" if found[2] in tables else found[0]

    return block.sub(written, page)


def write(pages: Iterable[Path], tables: Mapping[str, Callable[[], str]]) -> None:
    """Write the pages again."""
    for page in pages:
        page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
