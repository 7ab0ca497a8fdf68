"""Figures and the HTML page, the page in a real browser."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpen.figures.paper.style import COLUMN, MissingDataError, PaperFigure, label_of, need
from sharpen.paper_repro.analysis.evidence import Evidence, by_model
from sharpen.paper_repro.analysis.verdict import judge
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.grids.store import rounded
from sharpen.paper_repro.report.gallery import draw, draw_all
from sharpen.paper_repro.report.page import render
from sharpen.paper_repro.work import theory as work_theory

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def whole(story: Results, made: Callable[..., dict[str, Any]]) -> Results:
    """The made-up model runs, the real exact ones, and a toy run."""
    exact = {
        "theory-regimes": work_theory.regimes(Path(), 0),
        "theory-length": work_theory.length(Path(), 0, tokens=[0.5, 0.3, 0.2], hazard=0.05, top=2.0),
        "theory-basins": work_theory.basins(Path(), 0),
    }
    steps = [0, 10, 20]
    curve = {"mean": [0.4, 0.6, 0.9], "low": [0.3, 0.5, 0.8], "high": [0.5, 0.7, 1.0]}
    names = ("task-reward", "sharpening", "tempered", "tilted")
    exact["toy-regimes"] = {
        "seeds": 8,
        "rows": [
            {
                "name": name,
                "step": steps,
                "expected_reward": curve,
                "length": curve,
                "theory": {"expected_reward": 0.9, "length": 9.0},
                "end": {"expected_reward": [0.9, 0.91]},
            }
            for name in names
        ],
    }
    template = next(iter(story.values()))
    rows = {
        name: {**template, "id": name, "arm": name, "kind": "theory", "settings": {}, "result": rounded(found)}
        for name, found in exact.items()
    }
    rows["low-temperature-4-s1"] = made("low-temperature-4", 1, None, 0.3)
    mean = {"mode": "optimization", "alpha": 1.0, "beta_inv": 0.0, "normalization": "mean"}
    rows["sharpening-1-0-mean-s1"] = made("sharpening-1-0-mean", 1, mean, 0.3)
    return {**story, **rows}


@pytest.fixture(scope="session")
def figures(whole: Results) -> tuple[list[PaperFigure], dict[str, str]]:
    return draw_all(by_model(whole))


def test_every_figure_is_written_with_data_and_caption(
    figures: tuple[list[PaperFigure], dict[str, str]], whole: Results, tmp_path: Path
) -> None:
    drawn, missing = figures
    assert missing == {"sensitivity": "theory-sensitivity", "estimators": "theory-estimators"}
    assert len(drawn) == 10
    for figure in drawn:
        paths = {path.suffix: path for path in figure.save(tmp_path)}
        assert set(paths) == {".pdf", ".png", ".csv", ".txt"}
        assert paths[".pdf"].read_bytes().startswith(b"%PDF")
        assert figure.figure.get_size_inches()[0] == COLUMN
        rows = list(csv.DictReader(paths[".csv"].open()))
        assert len(rows) == len(figure.rows) > 0
        assert paths[".txt"].read_text().strip().endswith((".", "only.")), figure.name
        assert all(run in whole for run in figure.runs)
    trained = [figure for figure in drawn if any(run in figure.runs for run in ("sharpening-1-0-s1",))]
    assert all(re.search(r"seed", figure.caption) for figure in trained)


def test_a_figure_shows_the_numbers_of_its_data(
    figures: tuple[list[PaperFigure], dict[str, str]], whole: Results
) -> None:
    """The bar figure's points are at the CSV's means, and the CSV's means at those of the results."""
    drawn, _ = figures
    figure = next(one for one in drawn if one.name == "fixed-length")
    row = next(r for r in figure.rows if r["arm"] == "sharpening-1-0-fixed" and r["measure"] == "pass@1")
    counts = [
        sum(whole[f"sharpening-1-0-fixed-s{seed}"]["result"]["checkpoints"]["last"]["problems"]["embedded"]["correct"])
        for seed in (1, 2, 3)
    ]
    assert row["mean"] == pytest.approx(sum(counts) / (3 * 24 * 16))
    lines = [np.asarray(line.get_xdata()) for line in figure.figure.axes[0].get_lines()]
    points = [x[0] for x in lines if len(x) == 1]
    assert any(point == pytest.approx(row["mean"]) for point in points)


def test_nothing_in_a_figure_hides_touches_or_leaves_it(figures: tuple[list[PaperFigure], dict[str, str]]) -> None:
    """Tick labels do not touch, titles lie within the figure and apart, legends off marked points, axes have names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for figure in figures[0]:
        canvas = FigureCanvasAgg(figure.figure)
        canvas.draw()
        within = figure.figure.bbox
        titles = []
        axes: list[Any] = figure.figure.axes
        for ax in axes:
            low, high = ax.get_xlim()
            shown = [label for label in ax.get_xticklabels() if low <= label.get_position()[0] <= high]
            labels = [label.get_window_extent() for label in shown if label.get_text() and label.get_visible()]
            labels.sort(key=lambda box: box.x0)
            assert all(a.x1 < b.x0 for a, b in pairwise(labels)), figure.name
            box = ax._left_title.get_window_extent() if ax.get_title("left") else ax.title.get_window_extent()
            assert box.x1 <= within.x1 + 1, figure.name
            titles += [box] if box.width > 0 else []
            legend = ax.get_legend()
            if legend is not None and ax.axison:
                frame = legend.get_window_extent()
                marked = [line for line in ax.get_lines() if line.get_marker() not in ("None", None, "")]
                for line in marked:
                    places = ax.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float))
                    assert not any(frame.contains(*place) for place in places), figure.name
        for place, box in enumerate(titles):
            assert not any(box.overlaps(other) for other in titles[:place]), figure.name


def test_no_interval_leaves_what_its_measure_can_be(figures: tuple[list[PaperFigure], dict[str, str]]) -> None:
    for figure in figures[0]:
        for row in figure.rows:
            measure = str(row.get("measure", row.get("what", "")))
            low, high = row.get("low"), row.get("high")
            if low is None or high is None:
                continue
            if measure.startswith(("pass@", "maj@")):
                assert 0.0 <= float(low) <= float(high) <= 1.0, (figure.name, row)
            if measure == "base_logprob":
                assert float(high) <= 0.0, (figure.name, row)


def test_no_figure_without_data() -> None:
    drawn, missing = draw(Evidence({}))
    assert drawn == []
    assert len(missing) == 12
    with pytest.raises(MissingDataError):
        need(None, "anything")


def test_labels() -> None:
    assert label_of("sharpening-1-0-weighted_mean") == "sharpening, weighted mean"
    assert label_of("power-4") == "power, α 4"
    assert label_of("base") == "base"


@pytest.fixture(scope="session")
def page(
    figures: tuple[list[PaperFigure], dict[str, str]], whole: Results, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    evidences = by_model(whole)
    drawn, missing = figures
    context = {"scale": "embedded", "done": len(whole), "total": 99, "missing": missing, "stale": ["base-s1"]}
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(evidences, judge(load_grid(), evidences), drawn, context), encoding="utf-8")
    return file


def test_the_page_is_self_contained_and_every_link_has_a_target(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']https?:", text)
    targets = set(re.findall(r'id="([^"]+)"', body))
    links = re.findall(r'href="#([^"]+)"', body)
    assert len(links) > 100
    assert set(links) <= targets
    assert "cpu &lt;test&gt;" in body  # what a result says is text, not markup
    assert "base-s1 (code has changed since)" in body
    assert '<meta name="viewport" content="width=device-width' in text
    rows = re.findall(r'<tr id="claim-.*?</tr>', body, re.DOTALL)
    reasons = [re.search(r"<td>(.*?)<details>", row, re.DOTALL) for row in rows]
    assert len(rows) > 3
    assert all(found is not None and len(found[1].strip()) > 10 for found in reasons)  # each verdict with its reason


def test_the_page_is_readable_on_a_dark_and_on_a_narrow_screen(page: Path, browser: Any) -> None:
    size = browser.get_window_size()
    try:
        for scheme, dark in (("dark", True), ("light", False)):
            browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            )
            browser.get(page.as_uri())
            back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 150 and back != "rgba(0, 0, 0, 0)") == dark
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        )
        browser.get(page.as_uri())
        images = "return [...document.querySelectorAll('figure img')].map(i => i.getBoundingClientRect().width)"
        assert all(width > 300 for width in browser.execute_script(images))
        assert browser.execute_script("return document.querySelector('table').getBoundingClientRect().right") <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.set_window_size(size["width"], size["height"])


def test_the_page_works_in_a_browser(page: Path, browser: Any) -> None:
    """Plots are drawn, the menu changes what is shown, a number leads to its runs, nothing is reported as an error."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .main-svg")) >= 3)
    plots = browser.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")
    assert len(plots) == 3
    curves = "return document.querySelectorAll('.js-plotly-plot')[0].data.filter(t => t.visible === true).length"
    title = "return document.querySelectorAll('.js-plotly-plot')[0].layout.yaxis.title.text"
    assert browser.execute_script(curves) > 0
    assert browser.execute_script(title) == "held-out pass@1"
    menu = browser.find_element(By.CSS_SELECTOR, ".updatemenu-header")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", menu)
    menu.click()
    browser.find_elements(By.CSS_SELECTOR, ".updatemenu-dropdown-button")[2].click()
    WebDriverWait(browser, 10).until(lambda b: b.execute_script(title) == "tokens per response")
    number = browser.find_element(By.CSS_SELECTOR, "#arms-table td a")
    target = number.get_attribute("href").partition("#")[2]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", number)
    number.click()
    commands = browser.find_elements(By.CSS_SELECTOR, f"details[id='{target}'] code")
    assert commands
    assert commands[0].text.startswith("sharpen paper run --scale embedded --run ")
    assert "supported" in browser.find_element(By.ID, "verdict-table").text
    images = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert browser.execute_script(images)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
