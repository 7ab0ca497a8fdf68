"""The report as one self-contained HTML page: verdicts, tables, interactive plots, figures, provenance.

Every number is a link to the runs that it comes from, and each run is listed with the command that computes it alone.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sharpen.figures.paper_style import PaperFigure, label_of
from sharpen.paper_repro import plots, tables
from sharpen.paper_repro.evidence import Evidence, runs_of
from sharpen.paper_repro.verdict import Verdict

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
td,th{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid #eee}
td:first-child,th:first-child{text-align:left}
td a{color:inherit;text-decoration:none;border-bottom:1px dotted #999}td a:hover{background:#eef}
.supported{color:#007a55;font-weight:600}.contradicted{color:#b34700;font-weight:600}.undecided{color:#666;font-weight:600}
figure{display:inline-block;vertical-align:top;width:31%;min-width:300px;margin:.5rem;font-size:12px}
figure img{width:100%}code{background:#f4f4f4;padding:0 .2rem;font-size:12px}
tr:target,details:target{background:#fff4cc}.range{color:#777;font-size:11px}
.wide td{white-space:normal;text-align:left}
"""
COLLAPSE = (
    "A run has collapsed that ends below half of the base's pass@1, or whose samples of a problem are at most 1.5 "
    "different responses on average."
)
RUN_COLUMNS = ("run", "command", "commit", "finished", "core seconds", "tokens", "hardware", "versions")


def render(
    evidences: Sequence[Evidence], verdicts: Sequence[Verdict], drawn: Sequence[PaperFigure], context: Mapping[str, Any]
) -> str:
    """Return the page.

    Args:
        evidences: The results, one a model.
        verdicts: On the claims.
        drawn: Figures.
        context: ``scale``, ``done`` and ``total`` runs, ``missing`` figures with what they lack, ``stale`` run ids.
    """
    results = {run: result for evidence in evidences for run, result in evidence.results.items()}
    front = next((figure for figure in drawn if figure.name.startswith("page-one")), None)
    others = [figure for figure in drawn if figure is not front]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>sharpen: the paper, regenerated</title>",
        f"<style>{STYLE}</style></head><body><h1>Beyond distribution sharpening, regenerated</h1>",
        _head(results, context),
        _figures([front]) if front is not None else "",
        "<h2 id='verdicts'>Verdicts</h2>",
        _verdicts(verdicts),
        *(_models(evidence, place == 0) for place, evidence in enumerate(evidences)),
        "<h2 id='figures'>Figures</h2>",
        _figures(others),
        _missing(context["missing"]),
        "<h2 id='runs'>Runs</h2>",
        _runs(evidences, set(context["stale"])),
        "</body></html>",
    ]
    return "\n".join(parts)


def _head(results: Mapping[str, Mapping[str, Any]], context: Mapping[str, Any]) -> str:
    commits = sorted({(r["provenance"]["commit"] or "unknown")[:12] for r in results.values()})
    hours = sum(r["provenance"]["cpu_seconds"] for r in results.values()) / 3600
    return (
        f"<p>Scale <b>{_text(context['scale'])}</b>: {context['done']} of {context['total']} runs, {hours:.1f} core "
        f"hours, computed at commits {', '.join(map(_text, commits))}. Intervals are 95% intervals over seeds "
        "and problems (two-way analysis of variance, Satterthwaite) unless said otherwise. A number links to its "
        "runs.</p>"
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        tests = "".join(
            f"<li><span class='{part.outcome}'>{part.outcome}</span>: {_text(part.test)}. {_text(part.reason)} "
            f"{_links(part.runs)}</li>"
            for part in verdict.parts
        )
        rows.append(
            f"<tr id='claim-{verdict.claim}'><td>{_text(verdict.statement)}</td>"
            f"<td class='{verdict.outcome}'>{verdict.outcome}</td>"
            f"<td><details><summary>{len(verdict.parts)} tests</summary><ul>{tests}</ul></details></td></tr>"
        )
    head = "<tr><th>claim</th><th>verdict</th><th>numbers</th></tr>"
    return f"<table class='wide' id='verdict-table'>{head}{''.join(rows)}</table>"


def _models(evidence: Evidence, first: bool) -> str:
    if not evidence.arms:
        return "<p>No language model has been trained yet.</p>"
    figures = (
        ("Training", plots.training),
        ("pass@k and maj@k, last checkpoint", plots.coverage),
        ("Accuracy and length, last checkpoint", plots.landscape),
    )
    parts = [f"<h2 id='model-{_text(evidence.model)}'>Language model: {_text(evidence.model)}</h2>"]
    if not any(arm.kind == "train" for arm in evidence.arms.values()):
        figures = figures[1:]
    for place, (title, make) in enumerate(figures):
        plot = make(evidence.arms).to_html(
            full_html=False, include_plotlyjs="inline" if first and place == 0 else False
        )
        parts.append(f"<h3>{title}</h3>{plot}")
    parts += ["<h3>Measures</h3>", _arms_table(evidence)]
    for measure, family in tables.comparisons(evidence).items():
        parts.append(f"<h3>{measure} against the base</h3>")
        parts.append(_number_table(evidence, tables.comparison_rows(list(family.values())), "against"))
    parts.append(f"<h3>Stability</h3><p>{COLLAPSE}</p>")
    parts.append(_number_table(evidence, tables.stability_rows(tables.stabilities(evidence))))
    return "\n".join(parts)


def _arms_table(evidence: Evidence) -> str:
    head = "".join(f"<th>{_text(title)}</th>" for title in ("arm", "checkpoint", "seeds", *tables.MEASURES.values()))
    body = []
    for row in tables.arms_table(evidence):
        cells = [f"<td>{_text(label_of(row['arm']))}</td><td>{row['checkpoint']}</td><td>{row['seeds']}</td>"]
        for measure in tables.MEASURES:
            cells.append(f"<td>{_linked(_anchor(evidence, row['arm']), row[measure])}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table id='arms-table'><tr>{head}</tr>{''.join(body)}</table>"


def _anchor(evidence: Evidence, arm: str) -> str:
    """Return the name of an arm's list of runs: one page may hold several models."""
    return f"{evidence.model}_{arm}"


def _linked(arm: str, measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return ""
    interval = f"<span class='range'>[{_number(measured['low'])}, {_number(measured['high'])}]</span>"
    return f"<a href='#arm-{_text(arm)}'>{_number(measured['mean'])}</a> {interval}"


def _number_table(evidence: Evidence, rows: Sequence[Mapping[str, Any]], *hidden: str) -> str:
    if not rows:
        return "<p>Not computed yet.</p>"
    columns = [name for name in rows[0] if name not in ("arm", "measure", *hidden)]
    head = "".join(f"<th>{_text(name)}</th>" for name in ("arm", *columns))
    body = []
    for row in rows:
        link = f"#arm-{_text(_anchor(evidence, row['arm']))}"
        cells = "".join(f"<td><a href='{link}'>{_number(row[name])}</a></td>" for name in columns)
        body.append(f"<tr><td>{_text(label_of(row['arm']))}</td>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _figures(drawn: Iterable[PaperFigure]) -> str:
    parts = []
    for figure in drawn:
        data = base64.b64encode(figure.png).decode()
        parts.append(
            f"<figure id='figure-{figure.name}'><img alt='{_text(figure.name)}' src='data:image/png;base64,{data}'>"
            f"<figcaption><b>{_text(figure.name)}</b>. {_text(figure.caption)} "
            f"{_links(figure.runs)}</figcaption></figure>"
        )
    return "".join(parts)


def _missing(missing: Mapping[str, str]) -> str:
    if not missing:
        return ""
    items = "".join(f"<li>{_text(name)}: needs {_text(what)}</li>" for name, what in missing.items())
    return f"<p>Not drawn, because results are missing:</p><ul>{items}</ul>"


def _runs(evidences: Sequence[Evidence], stale: set[str]) -> str:
    results = {run: result for evidence in evidences for run, result in evidence.results.items()}
    groups = {_anchor(evidence, name): runs_of(arm) for evidence in evidences for name, arm in evidence.arms.items()}
    listed = {run for runs in groups.values() for run in runs}
    groups |= {run: [run] for run in results if run not in listed}
    parts = []
    for name, runs in groups.items():
        rows = "".join(_run_row(results[run], run in stale) for run in runs)
        head = "<tr>" + "".join(f"<th>{title}</th>" for title in RUN_COLUMNS) + "</tr>"
        title = _text(label_of(name))
        parts.append(
            f"<details id='arm-{_text(name)}' open><summary>{title}</summary><table>{head}{rows}</table></details>"
        )
    return "\n".join(parts)


def _run_row(result: Mapping[str, Any], stale: bool) -> str:
    origin = result["provenance"]
    tokens = sum(origin["tokens"].values())
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items() if version)
    note = " (code has changed since)" if stale else ""
    hardware = origin["hardware"]
    machine = f"{hardware['model']}, {hardware['cores']} cores" + (f", {hardware['gpu']}" if hardware["gpu"] else "")
    cells = (result["id"] + note, f"<code>{_text(origin['command'])}</code>", (origin["commit"] or "unknown")[:12])
    rest = (origin["finished"], f"{origin['cpu_seconds']:.0f}", f"{tokens:,}", machine, versions)
    shown = [f"<td>{cell if cell.startswith('<code>') else _text(cell)}</td>" for cell in (*cells, *rest)]
    return f"<tr id='run-{_text(result['id'])}'>{''.join(shown)}</tr>"


def _links(runs: Sequence[str]) -> str:
    if not runs:
        return ""
    return "<small>" + " ".join(f"<a href='#run-{_text(run)}'>{_text(run)}</a>" for run in runs) + "</small>"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 and (abs(value) >= 5e-4 or value == 0) else f"{value:.2g}"
    return _text(str(value))


def _text(text: object) -> str:
    return html.escape(str(text), quote=True)
