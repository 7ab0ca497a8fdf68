"""Notebooks as pages of the site: kept outputs, figures with sliders, text that is only text, links between them."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("notebook_pages", ROOT / "docs" / "site" / "notebook_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(name: str, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "id": name, "source": [source], "outputs": list(outputs)}


def test_a_page_has_the_cells_and_what_they_printed(hook: Any) -> None:
    picture = {"data": {"image/png": base64.b64encode(b"PNG").decode(), "text/plain": ["<Figure>"]}}
    figure = {"data": [{"type": "bar", "y": [1.0]}], "layout": {"title": {"text": "</script><b>"}}}
    cells = [
        {"cell_type": "markdown", "id": "a", "source": ["# One\n", "[other](two.ipynb), [page](../audit.md)"]},
        code("b", "print(1)", {"output_type": "stream", "text": ["<b>1</b>\n", "```\n"]}),
        code("c", "draw()", picture),
        code("d", "slide()", {"data": {hook.PLOTLY: figure, "text/plain": ["<Figure with a slider>"]}}),
    ]
    text, pictures = hook.page_of({"cells": cells}, "one.ipynb")
    assert text.startswith("# One\n[other](two.md), [page](../audit.md)\n\n[This page as a notebook](one.ipynb)\n\n")
    assert "````text\n<b>1</b>\n```\n````" in text  # a fence that its content does not end
    assert pictures == {"one-c.png": b"PNG"}
    assert "](one-c.png)" in text
    assert text.count(f'<script src="{hook.SCRIPT}"></script>') == 1
    drawn = next(part for part in text.split("\n\n") if 'id="one-d"' in part)
    assert "\n" not in drawn.strip()
    assert drawn.count("</script>") == drawn.count("<script")


def test_a_page_without_sliders_loads_no_code(hook: Any) -> None:
    text, pictures = hook.page_of({"cells": [code("a", "1 + 1", {"data": {"text/plain": ["2"]}})]}, "one.ipynb")
    assert hook.SCRIPT not in text
    assert pictures == {}


def test_every_notebook_is_in_the_navigation() -> None:
    named = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    files = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert files
    assert all(f"notebooks/{file.stem}.md" in named for file in files)


def test_a_slider_moves_without_a_kernel(hook: Any, tmp_path: Path, browser: Any) -> None:
    """The committed figure, in a real browser."""
    from plotly.offline import get_plotlyjs

    file = ROOT / "docs" / "notebooks" / "forecast-and-audit.ipynb"
    text, _ = hook.page_of(json.loads(file.read_text(encoding="utf-8")), file.name)
    (tmp_path / hook.SCRIPT).write_text(get_plotlyjs(), encoding="utf-8")
    (drawn,) = [part for part in text.split("\n\n") if "plotly-graph-div" in part]
    page = tmp_path / "page.html"
    page.write_text(f'<meta charset="utf-8"><script src="{hook.SCRIPT}"></script>{drawn}', encoding="utf-8")
    browser.get(page.as_uri())
    bars = "return Array.from(document.querySelector('.js-plotly-plot').data[0].x)"
    before = browser.execute_script(bars)
    move = "Plotly.restyle(p, ...p.layout.sliders[0].steps.at(-1).args)"
    browser.execute_script(f"const p = document.querySelector('.js-plotly-plot'); {move}")
    after = browser.execute_script(bars)
    assert len(before) == len(after) == 8
    assert before != after
    assert browser.execute_script("return document.querySelectorAll('.slider-container').length") >= 1
