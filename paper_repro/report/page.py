"""The report as one self-contained HTML page: verdicts, tables, interactive plots, figures, provenance.

Every number is a link to the runs that it comes from, and each run is listed with the command that computes it alone.
The markup is in `templates/report.html`; what results say gets into it as text, never as markup.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sharpen.figures.paper.style import PaperFigure, label_of
from sharpen.objective.pages import render_page
from sharpen.paper_repro.analysis.evidence import Evidence, runs_of
from sharpen.paper_repro.analysis.verdict import Verdict
from sharpen.paper_repro.report import plots, tables

PLOTS = (
    ("Training", plots.training),
    ("pass@k and maj@k, last checkpoint", plots.coverage),
    ("Accuracy and length, last checkpoint", plots.landscape),
)


def render(
    evidences: Sequence[Evidence], verdicts: Sequence[Verdict], drawn: Sequence[PaperFigure], context: Mapping[str, Any]
) -> str:
    """Return the page.

    Args:
        evidences: The results, one a model.
        verdicts: On the claims.
        drawn: Figures.
        context: ``scale``, ``done`` and ``total`` runs, ``missing`` figures with what they lack, ``stale`` run ids,
            ``tasks``, rows on the tasks of a study, where it is one.
    """
    results = {run: result for evidence in evidences for run, result in evidence.results.items()}
    origins = [result["provenance"] for result in results.values()]
    front = next((figure for figure in drawn if figure.name.startswith("page-one")), None)
    return render_page(
        "sharpen.paper_repro.report",
        "report.html",
        scale=context["scale"],
        done=context["done"],
        total=context["total"],
        hours=sum(origin["cpu_seconds"] for origin in origins) / 3600,
        commits=sorted({_commit(origin) for origin in origins}),
        front=_figures([front] if front is not None else []),
        figures=_figures(figure for figure in drawn if figure is not front),
        verdicts=verdicts,
        standing=context.get("standing", ""),
        picked=context.get("picked", ()),
        tasks=context.get("tasks", []),
        measures=list(tables.MEASURES.values()),
        models=[_model(evidence, place == 0) for place, evidence in enumerate(evidences)],
        missing=context["missing"],
        groups=_groups(evidences, set(context["stale"])),
        number=_number,
        why=_deciding,
    )


def _deciding(verdict: Verdict) -> Any:
    """Return the first of a verdict's tests that came out as the verdict did: its reason in one line."""
    return next((part for part in verdict.parts if part.outcome == verdict.outcome), verdict.parts[0])


def _commit(origin: Mapping[str, Any]) -> str:
    return (origin["commit"] or "unknown")[:12]


def _model(evidence: Evidence, first: bool) -> dict[str, Any]:
    if not evidence.arms:
        return {"trained": False}
    return {
        "trained": True,
        "name": evidence.model,
        "plots": _plots(evidence, first),
        "arms": _arms(evidence),
        "comparisons": [
            _numbers(evidence, tables.comparison_rows(list(family.values())), measure, "against")
            for measure, family in tables.comparisons(evidence).items()
        ],
        "stability": _numbers(evidence, tables.stability_rows(tables.stabilities(evidence)), "Stability"),
    }


def _plots(evidence: Evidence, first: bool) -> list[dict[str, Any]]:
    """Return the interactive plots; the first of the page brings plotly's code along."""
    from markupsafe import Markup

    trained = any(arm.kind == "train" for arm in evidence.arms.values())
    found = []
    for title, make in PLOTS if trained else PLOTS[1:]:
        code = "inline" if first and not found else False
        # plotly writes its data as JSON in which < and > are escaped, so that no name ends the script
        html = make(evidence.arms).to_html(full_html=False, include_plotlyjs=code)
        found.append({"title": title, "html": Markup(html)})
    return found


def _arms(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            "label": label_of(row["arm"]),
            "anchor": _anchor(evidence, row["arm"]),
            "checkpoint": row["checkpoint"],
            "seeds": row["seeds"],
            "measures": [row[measure] for measure in tables.MEASURES],
        }
        for row in tables.arms_table(evidence)
    ]


def _anchor(evidence: Evidence, arm: str) -> str:
    """Return the name of an arm's list of runs: one page may hold several models."""
    return f"{evidence.model}_{arm}"


def _numbers(evidence: Evidence, rows: Sequence[Mapping[str, Any]], title: str, *hidden: str) -> dict[str, Any]:
    """Return a table of numbers: its columns, and each arm's numbers with the name of its list of runs."""
    columns = [name for name in rows[0] if name not in ("arm", "measure", *hidden)] if rows else []
    found = [
        {
            "label": label_of(row["arm"]),
            "anchor": _anchor(evidence, row["arm"]),
            "numbers": [row[name] for name in columns],
        }
        for row in rows
    ]
    return {"title": title, "columns": columns, "rows": found}


def _figures(drawn: Iterable[PaperFigure]) -> list[dict[str, Any]]:
    return [
        {
            "name": figure.name,
            "caption": figure.caption,
            "runs": figure.runs,
            "data": base64.b64encode(figure.png).decode(),
        }
        for figure in drawn
    ]


def _groups(evidences: Sequence[Evidence], stale: set[str]) -> list[dict[str, Any]]:
    """Return the lists of runs: one an arm of a model, and one for each run of theory and toy."""
    results = {run: result for evidence in evidences for run, result in evidence.results.items()}
    groups = {_anchor(evidence, name): runs_of(arm) for evidence in evidences for name, arm in evidence.arms.items()}
    listed = {run for runs in groups.values() for run in runs}
    groups |= {run: [run] for run in results if run not in listed}
    return [
        {"anchor": name, "label": label_of(name), "runs": [_run(results[run], run in stale) for run in runs]}
        for name, runs in groups.items()
    ]


def _run(result: Mapping[str, Any], stale: bool) -> dict[str, Any]:
    origin, hardware = result["provenance"], result["provenance"]["hardware"]
    machine = f"{hardware['model']}, {hardware['cores']} cores" + (f", {hardware['gpu']}" if hardware["gpu"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items() if version)
    tokens = sum(origin["tokens"].values())
    cells = (_commit(origin), origin["finished"], f"{origin['cpu_seconds']:.0f}", f"{tokens:,}", machine, versions)
    return {"id": result["id"], "stale": stale, "command": origin["command"], "cells": cells}


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 and (abs(value) >= 5e-4 or value == 0) else f"{value:.2g}"
    return str(value)
