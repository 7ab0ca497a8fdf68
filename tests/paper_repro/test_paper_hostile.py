"""What results, captions and names say gets into the report as text, never as markup."""

from __future__ import annotations

import copy
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from matplotlib.figure import Figure

from sharpen.figures.paper.style import PaperFigure
from sharpen.paper_repro.analysis.evidence import Evidence, by_model
from sharpen.paper_repro.analysis.verdict import Part, Verdict, judge
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.report.page import render

PAYLOAD = '<code>"\'><evil onload="evil()"></script></style><script>evil()</script><evil a=b>&lt;{{ 7*7 }}'
Results = dict[str, dict[str, Any]]


class Reader(HTMLParser):
    """What a browser would make elements of, and what it would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.scripts: list[str] = []
        self.shown: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.shown).append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def hostile(value: Any) -> Any:
    """Return a result's provenance with the payload at the front of every text in it."""
    if isinstance(value, dict):
        return {name if name in KEPT else PAYLOAD + name: hostile(entry) for name, entry in value.items()}
    return PAYLOAD + value if isinstance(value, str) else value


KEPT = {"commit", "finished", "command", "tokens", "versions", "hardware", "model", "cores", "gpu", "cpu_seconds"}
KEPT |= {"trained", "evaluated", "seconds", "threads", "seed", "python", "system", "processor", "memory_gib"}


def page_of(results: Results, figures: list[PaperFigure], verdicts: list[Verdict]) -> str:
    context = {"scale": PAYLOAD, "done": 1, "total": 2, "missing": {PAYLOAD: PAYLOAD}, "stale": [next(iter(results))]}
    return render(by_model(results), verdicts, figures, context)


@pytest.fixture(scope="module")
def tainted(story: Results) -> Results:
    """The made-up results with a hostile text in every field that the page shows, ids and model included."""
    found = {}
    for run, result in story.items():
        one = copy.deepcopy(result)
        one["provenance"] = hostile(one["provenance"])
        one["settings"]["config"]["model"] = PAYLOAD
        name = run if run.startswith("base") else run.replace("-s", f"{PAYLOAD}-s")
        one["id"] = name
        one["arm"] = one["arm"] if run.startswith("base") else one["arm"] + PAYLOAD
        found[name] = one
    return found


def test_nothing_that_a_result_says_becomes_an_element(
    story: Results, tainted: Results, made: Callable[..., dict[str, Any]]
) -> None:
    verdict = Verdict(PAYLOAD, PAYLOAD, "supported", [Part(PAYLOAD, "supported", PAYLOAD, [next(iter(tainted))])], [])
    figure = PaperFigure(PAYLOAD, Figure(), [], PAYLOAD, [next(iter(tainted))])
    plain = read(page_of(story, [], judge(load_grid(), by_model(story))))
    found = read(page_of(tainted, [figure], [verdict]))
    assert "evil" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert found.tags.count("script") == plain.tags.count("script") > 0
    assert not [code for code in found.scripts if code.startswith("evil")]
    assert "".join(found.shown).count(PAYLOAD) > 30  # in provenance, names, captions: to be read as it stands


@pytest.mark.parametrize("field", ["commit", "finished", "command"])
def test_a_field_that_begins_with_code(story: Results, field: str) -> None:
    """The page once took what begins with ``<code>`` for its own markup."""
    results = copy.deepcopy(story)
    run = next(iter(results))
    results[run]["provenance"][field] = "<code><evil>"
    results[run]["provenance"]["versions"] = {"<code><evil>": "<code><evil>"}
    found = read(page_of(results, [], []))
    assert "evil" not in found.tags
    assert "<code><evil>" in "".join(found.shown)


def test_a_page_without_results() -> None:
    context = {"scale": "embedded", "done": 0, "total": 0, "missing": {}, "stale": []}
    assert "No language model has been trained yet." in render([Evidence({})], [], [], context)
