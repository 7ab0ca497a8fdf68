"""Tables of a study of several base models: contrasts with the control, what each arm was made of, counts, endings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharpen.figures.paper.style import write_csv
from sharpen.paper_repro.analysis.arms import Arm, FloatArray
from sharpen.paper_repro.analysis.contrasts import BASE
from sharpen.paper_repro.analysis.members import Members, at_kl, unsolved
from sharpen.paper_repro.analysis.rules_dial import endings
from sharpen.paper_repro.intervals.bounded import LINE, UNIT, Bounds, bounded_interval, bounds_of, of_difference
from sharpen.paper_repro.intervals.stats import Interval

MEASURES = (
    *("pass@1", "pass@4", "pass@16", "pass@64", "pass^4", "maj@16", "response_length", "answer_entropy", "kl_base"),
    *("alpha_own", "alpha_base"),
)
Row = dict[str, Any]


def write_members(study: Members, folder: Path) -> None:
    """Write ``contrasts.csv``, ``splits.csv``, ``counts.csv``, ``endings.csv`` and ``forecasts.csv``."""
    for name, rows in tables(study).items():
        write_csv(folder / f"{name}.csv", rows)


def tables(study: Members) -> dict[str, list[Row]]:
    """Return the tables by name, rows of each."""
    makers: dict[str, Callable[[Members, str, str], list[Row]]] = {
        "contrasts": _contrasts,
        "splits": _splits,
        "counts": _counts,
        "endings": _endings,
    }
    names = _arms(study)
    found = {
        title: [
            {"member": member, "arm": arm} | row
            for member in study.evidence
            for arm in names
            if arm in study.evidence[member].arms
            for row in make(study, member, arm)
        ]
        for title, make in makers.items()
    }
    found["forecasts"] = [_forecast(study, member) for member in study.forecasts]
    return found


def _arms(study: Members) -> tuple[str, ...]:
    arms = study.rules.arms
    return arms.control, arms.tempered, arms.sharpening, arms.task_reward


def _ends(found: Interval, name: str = "difference") -> Row:
    return {name: found.mean, "low": found.low, "high": found.high}


def values(arm: Arm, measure: str) -> FloatArray | None:
    """Return a measure of an arm, shape [S, P], or [S, 1] where it is one of a run; None where it was not measured."""
    if measure == "pass^4":
        from sharpen.theory.audit.counted import pass_hat_k

        return np.array([pass_hat_k(table["correct"], table["samples"], 4) for table in arm.problems()])
    if measure == "kl_base":
        return (
            arm.scores("logprob") - arm.scores("base_logprob")
            if arm.has("logprob") and arm.has("base_logprob")
            else None
        )
    if measure in ("alpha_own", "alpha_base"):
        slopes = arm.slope(own=measure == "alpha_own")
        return None if slopes is None or not np.isfinite(slopes).all() else slopes[:, None]
    return arm.scores(measure) if arm.has(measure) else None


def bounds(measure: str) -> Bounds:
    """Return what a measure of this table lies between."""
    return UNIT if measure.startswith("pass") else bounds_of(measure)


def _contrasts(study: Members, member: str, arm: str) -> list[Row]:
    """Return each measure, and what is left of it without the null control."""
    control = study.rules.arms.control
    found = study.arms(member, arm, control) or (study.evidence[member].arms[arm],)
    rows: list[Row] = []
    for measure in MEASURES:
        own = values(found[0], measure)
        if own is None or own.size < 2:
            continue
        row = {"measure": measure, "seeds": len(found[0].seeds)} | _ends(
            bounded_interval(own, bounds(measure)), "value"
        )
        if len(found) > 1 and arm != control:
            other = values(found[1], measure)
            if other is not None:
                left = bounded_interval(own - other, of_difference(bounds(measure)) if own.shape[1] > 1 else LINE)
                row |= {"less control": left.mean, "less control low": left.low, "less control high": left.high}
                row["p"] = left.p
        rows.append(row)
    return rows


def _splits(study: Members, member: str, arm: str) -> list[Row]:
    """Return what sharpening, reward and length explain of KL(pi || p), means over seeds of each seed's split."""
    splits = [split for split in (split_of(table) for table in study.evidence[member].arms[arm].problems()) if split]
    if not splits:
        return []
    row: Row = {"seeds": len(splits)}
    parts = {"KL": lambda one: one["kl"]["value"], "rest": lambda one: one["rest"]["value"]}
    parts |= {
        f"{name} alone": lambda one, name=name: one["explained"][name]["value"] for name in ("sharpening", "reward")
    }
    parts |= {f"Shapley {name}": lambda one, name=name: one["shapley"][name]["value"] for name in splits[0]["shapley"]}
    for name, of in parts.items():
        numbers = np.array([float(of(one)) for one in splits])
        found = bounded_interval(numbers[:, None]) if len(numbers) > 1 else Interval(numbers[0], np.nan, np.nan)
        row |= {name: found.mean, f"{name} low": found.low, f"{name} high": found.high}
    return [row]


def split_of(table: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the audit's split of one run from its kept samples and the base's, None where they were not kept."""
    from sharpen.theory.audit.report import audit_split
    from sharpen.theory.audit.sampled import Pooled, Scored

    if "cross" not in table or "base_logprob" not in table.get("kept", {}):
        return None
    own, before = table["kept"], table["cross"]
    prompts = [
        Pooled.of(
            # In ``cross`` the base is the one that samples: its own score is called logprob.
            Scored.of(*(before[name][at] for name in ("logprob", "base_logprob", "right", "tokens"))),
            Scored.of(*(own[name][at] for name in ("base_logprob", "logprob", "right", "tokens"))),
        )
        for at in range(len(table["ids"]))
    ]
    return audit_split(prompts, 16)


def _counts(study: Members, member: str, arm: str) -> list[Row]:
    """Return sharpening tax, support and crossover against the base, seed by seed, as means and ranges over seeds."""
    from sharpen.theory.audit.counted import Counted
    from sharpen.theory.core.intervals import Resampler

    pair = study.arms(member, arm, BASE)
    if pair is None:
        return []
    tables = list(zip(*(one.problems() for one in pair), strict=True))
    counted = [Counted(base["correct"], base["samples"], own["correct"], own["samples"]) for own, base in tables]
    resampler = Resampler(len(tables[0][0]["ids"]), 16)
    row: Row = {"seeds": len(counted), "samples": counted[0].least}
    numbers = {"sharpening tax A": [one.tax(resampler)["A"]["tax"]["value"] for one in counted]}
    support = [one.support(resampler) for one in counted]
    for name in ("kept", "gained", "lost", "out"):
        numbers[name] = [one[name]["value"] for one in support]
    for name in ("gained", "lost"):
        numbers[f"{name} by chance"] = [one[f"{name}_by_chance"] for one in support]
    for name, column in numbers.items():
        found = bounded_interval(np.array(column)[:, None], LINE if name.startswith("sharpening") else UNIT)
        row |= {name: found.mean, f"{name} low": found.low, f"{name} high": found.high}
    row |= _crossover([one.crossover(resampler)["value"] for one in counted])
    never = unsolved(pair[1], study.rules.never)
    solved = pair[0].scores("correct")[:, never] > 0
    return [
        row
        | {
            "never solved by the base": int(never.sum()),
            "of them solved": float(solved.mean()) if never.any() else None,
        }
    ]


def _crossover(ks: Sequence[int | None]) -> Row:
    """Return the median first k at which the base is ahead, and in how many seeds there is one; no crossing is last."""
    there = sorted(k for k in ks if k is not None)
    middle = (len(ks) - 1) // 2
    row: Row = {"crossover k": there[middle] if middle < len(there) else None, "seeds with one": len(there)}
    return row | {"least k": there[0] if there else None, "largest k": there[-1] if len(there) == len(ks) else None}


def _endings(study: Members, member: str, arm: str) -> list[Row]:
    """Return how the runs end, and accuracy at each registered KL."""
    found = endings(study, member, arm)
    own = study.evidence[member].arms[arm]
    row: Row = (
        {"collapses": found.collapses, "falls back": found.falls, "numbers": found.numbers} if found is not None else {}
    )
    for nats in study.rules.matched_kl:
        reached = at_kl(own, nats)
        reached = reached[np.isfinite(reached)]
        at = bounded_interval(reached[:, None], UNIT) if len(reached) > 1 else None
        key = f"pass@1 at KL {nats:g}"
        row |= {
            key: at and at.mean,
            f"{key} low": at and at.low,
            f"{key} high": at and at.high,
            f"{key} seeds": len(reached),
        }
    return [row]


def _forecast(study: Members, member: str) -> Row:
    """Return what base samples forecast of the tempered arm, beside the exact law and what was reached."""
    arms, registered = study.rules.arms, study.member(member)
    row: Row = {"member": member, "exponent": arms.tempered_alpha} | _ends(study.forecasts[member], "forecast")
    exact = registered.sharpened.get(f"{arms.tempered_alpha:g}")
    row["exact law"] = None if exact is None else exact - registered.base
    reached = study.difference(member, arms.tempered, arms.control)
    if reached is not None:
        found = bounded_interval(reached, of_difference(UNIT))
        row |= {"reached less control": found.mean, "reached low": found.low, "reached high": found.high}
    return row
