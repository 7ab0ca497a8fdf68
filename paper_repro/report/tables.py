"""The paper's tables as rows, for CSV and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpen.figures.paper.style import write_csv
from sharpen.paper_repro.analysis.contrasts import Comparison, Stability, summary
from sharpen.paper_repro.analysis.evidence import Evidence
from sharpen.paper_repro.analysis.members import contrast as contrasts_of
from sharpen.paper_repro.analysis.tasks import Study, correlation, paired
from sharpen.paper_repro.analysis.tasks import gain as paired_gain
from sharpen.paper_repro.intervals.bounded import bounded_interval, bounds_of
from sharpen.paper_repro.intervals.stats import Interval

MEASURES = {
    "pass@1": "pass@1",
    "pass@16": "pass@16",
    "maj@16": "maj@16",
    "response_length": "tokens",
    "distinct": "distinct of 16",
    "base_logprob": "log p(x)",
    "kl_base": "KL to base",
    "alpha_own": "slope on own samples",
}
TESTED = ("pass@1", "pass@16", "response_length")


def arms_table(evidence: Evidence) -> list[dict[str, Any]]:
    """Return one row an arm and checkpoint: its measures with 95% intervals."""
    rows = []
    for arm in evidence.arms.values():
        for checkpoint in arm.checkpoints:
            rows.append({"checkpoint": checkpoint, **summary(arm, checkpoint)})
    return rows


def comparisons(evidence: Evidence) -> dict[str, dict[str, Comparison]]:
    """Return every arm against the base in pass@1, pass@16 and length, each measure by itself."""
    from sharpen.paper_repro.analysis.contrasts import against_base

    return {
        measure: evidence.accuracy if measure == "pass@1" else against_base(evidence.arms, measure, evidence.base_arm)
        for measure in TESTED
    }


def stabilities(evidence: Evidence) -> list[Stability]:
    """Return how the runs of every trained arm end."""
    found = [evidence.stability(arm) for arm in evidence.arms.values() if arm.kind == "train"]
    return [one for one in found if one is not None]


def write_tables(evidences: Sequence[Evidence], folder: Path) -> None:
    """Write ``arms.csv``, ``comparisons.csv`` and ``stability.csv``, the model in the first column."""
    rows: dict[str, list[dict[str, Any]]] = {"arms": [], "comparisons": [], "stability": []}
    for evidence in evidences:
        model = {"model": evidence.model}
        compared = [found for family in comparisons(evidence).values() for found in family.values()]
        rows["arms"] += [model | _flat(row) for row in arms_table(evidence)]
        rows["comparisons"] += [model | row for row in comparison_rows(compared)]
        rows["stability"] += [model | row for row in stability_rows(stabilities(evidence))]
    for name, table in rows.items():
        write_csv(folder / f"{name}.csv", table)


KEPT = (
    *("pass@1", "pass@2", "pass@4", "pass@8", "pass@16", "maj@1", "maj@2", "maj@4", "maj@8", "maj@16", "greedy"),
    *("response_length", "finished", "answered", "distinct", "entropy", "base_logprob", "logprob"),
)


def write_study(study: Study, folder: Path) -> None:
    """Write what the base model says of each task, every measure of every arm, and what each adds to the control.

    They are ``tasks.csv``, ``measures.csv`` and ``gains.csv``, the last beside what the base model's samples forecast.
    """
    write_csv(folder / "tasks.csv", [task_row(study, name) for name in study.areas])
    write_csv(folder / "gains.csv", [row for task in study.tasks for row in gain_rows(study, task)])
    rows = [
        {"task": task, "arm": arm.name, "checkpoint": arm.final, "seeds": len(arm.seeds), "measure": measure}
        | _ends(bounded_interval(arm.scores(measure), bounds_of(measure)))
        for task, evidence in study.tasks.items()
        for arm in evidence.arms.values()
        for measure in KEPT
        if arm.has(measure)
    ]
    write_csv(folder / "measures.csv", rows)


def gain_rows(study: Study, task: str) -> list[dict[str, Any]]:
    """Return what each arm adds to the null control's pass@1 on a task, and the forecast of p^2 from base samples."""
    base, control = study.tasks[task].base, study.registration.control
    rows: list[dict[str, Any]] = []
    if base is not None and base.has("forecast@2"):
        gain = contrasts_of(base.scores("forecast@2") - base.scores("pass@1"))
        rows.append({"task": task, "arm": "forecast@2"} | _ends(gain))
    for name in study.tasks[task].arms:
        pair = paired(study, task, (name, control))
        if pair is not None and name not in (control, base and base.name):
            rows.append({"task": task, "arm": name} | _ends(contrasts_of(paired_gain(pair, name, control))))
    return rows


def _ends(found: Interval) -> dict[str, Any]:
    return {"mean": found.mean, "low": found.low, "high": found.high}


def task_row(study: Study, name: str) -> dict[str, Any]:
    """Return what a task's base model says of it: kind, correlation, area under the curve, accuracy, forecasts."""
    base = study.tasks[name].base
    assert base is not None
    found = {"AUC": study.areas[name], "Corr(r, log p)": correlation(base)}
    table = base.problems()[0]
    asked = [one for one in table if one.startswith(("greedy", "forecast", "ess"))]
    for measure in filter(base.has, ("pass@1", "pass@16", "maj@16", *asked)):
        found[measure] = bounded_interval(base.scores(measure), bounds_of(measure))
    kind = "aligned" if name in study.of_kind(True) else "not-aligned"
    expected = study.registration.tasks[name].expected
    row: dict[str, Any] = {"task": name, "kind": kind, "expected": expected, "problems": len(table["ids"])}
    return row | _flat({key: one._asdict() if one is not None else None for key, one in found.items()})


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in row.items():
        if isinstance(entry, Mapping):
            flat |= {name: entry["mean"], f"{name} low": entry["low"], f"{name} high": entry["high"]}
        else:
            flat[name] = entry
    return flat


def _comparison_row(found: Comparison) -> dict[str, Any]:
    return {
        "arm": found.arm,
        "against": found.against,
        "measure": found.measure,
        "seeds": found.seeds,
        "problems": found.problems,
        "difference": found.difference.mean,
        "low": found.difference.low,
        "high": found.difference.high,
        "bootstrap low": found.bootstrap.low,
        "bootstrap high": found.bootstrap.high,
        "p": found.difference.p,
        "d_z": found.standardized,
        "wins": found.wins,
    }


def _stability_row(found: Stability) -> dict[str, Any]:
    return {
        "arm": found.arm,
        "seeds": found.seeds,
        "collapsed": found.collapsed.mean,
        "collapsed low": found.collapsed.low,
        "collapsed high": found.collapsed.high,
        "worst drawdown best to last": found.worst_drawdown,
        "largest fall below the best checkpoint": found.fall_from_best,
        "largest fall": found.largest_fall,
        "standard deviation over seeds": found.spread,
    }


def comparison_rows(family: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return comparisons as rows."""
    return [_comparison_row(found) for found in family]


def stability_rows(found: Sequence[Stability]) -> list[dict[str, Any]]:
    """Return stabilities as rows."""
    return [_stability_row(one) for one in found]
