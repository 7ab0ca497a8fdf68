"""The page of derivations takes every text as text."""

from __future__ import annotations

from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any, cast

import sympy as sp

from sharpen.theory.proofs.documents import as_html
from sharpen.theory.proofs.prose import Text

PAYLOAD = "<code>\"'><evil onload=evil()></style><script>evil()</script>&lt;{{ 7*7 }}"


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def test_no_text_becomes_an_element() -> None:
    step: dict[str, Any] = {"text": Text((PAYLOAD,)), "shown": sp.Symbol("x"), "method": PAYLOAD, "scope": PAYLOAD}
    step |= {"confirms": False, "error": 0.0, "tolerance": 0.0, "holds": True, "assuming": (sp.Symbol("y"),)}
    fields: dict[str, Any] = {
        "id": PAYLOAD,
        "title": PAYLOAD,
        "statement": Text((PAYLOAD, ""), (sp.Symbol("x"),)),
        "latex": "x",
        "method": PAYLOAD,
    }
    fields |= {"holds": False, "error": 0.0, "steps": [SimpleNamespace(**step, where={})]}
    page = as_html([cast(Any, SimpleNamespace(**fields))])
    reader = Reader()
    reader.feed(page)
    assert not {"evil", "script", "code"} & set(reader.tags)
    assert reader.tags.count("math") == 3
    assert "".join(reader.shown).count(PAYLOAD) == 10  # three in the row, four in the section, three in the step
