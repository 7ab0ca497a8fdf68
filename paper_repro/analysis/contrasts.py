"""From arms to numbers: each arm against the base model, with intervals, p-values, effects and stability.

None of this was registered before its runs: p-values are not corrected, and what they say is exploratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sharpen.paper_repro.analysis.arms import Arm, common_seeds, difference
from sharpen.paper_repro.intervals.bounded import bounded_interval, bounds_of, of_difference
from sharpen.paper_repro.intervals.stats import (
    Interval,
    bootstrap_interval,
    effect,
    share,
    worst_drawdown,
    worst_drawdown_to_last,
)

BASE = "base"
COLLAPSE_ACCURACY = 0.5  # a run has collapsed that ends below half of the base's pass@1 ...
COLLAPSE_DISTINCT = 1.5  # ... or whose 16 samples of a problem are at most so many different responses on average


@dataclass(frozen=True)
class Comparison:
    """One arm against another in one measure, paired by seed and problem.

    Args:
        arm: The first.
        against: The second.
        measure: What is compared.
        seeds: Number of common seeds.
        problems: Number of problems.
        difference: First minus second, interval over seeds and problems within what can be, with its p-value.
        bootstrap: The paired bootstrap's interval.
        standardized: Effect size d_z over problems; None if all differences are equal.
        wins: Share of problems on which the first is better, ties counted half.
    """

    arm: str
    against: str
    measure: str
    seeds: int
    problems: int
    difference: Interval
    bootstrap: Interval
    standardized: float | None
    wins: float

    @property
    def larger(self) -> bool:
        """Whether the first is larger: the 95% interval lies above 0."""
        return self.difference.low > 0

    @property
    def smaller(self) -> bool:
        """Whether the first is smaller, likewise."""
        return self.difference.high < 0


def compare(a: Arm, b: Arm, measure: str = "pass@1", data: str | None = None) -> Comparison | None:
    """Return how two arms differ; None if they share no seed, other problems were asked, or too few samples."""
    if not (a.has(measure) and b.has(measure)):
        return None
    found = difference(a, b, measure, data)
    if found is None or found.size < 2:
        return None
    mine, other = common_seeds(a, b)
    size = effect(mine.scores(measure, None, data), other.scores(measure, None, data))
    seeds, problems = found.shape
    return Comparison(
        a.name,
        b.name,
        measure,
        seeds,
        problems,
        bounded_interval(found, of_difference(bounds_of(measure))),
        bootstrap_interval(found),
        size.standardized,
        size.wins,
    )


def against_base(arms: Mapping[str, Arm], measure: str = "pass@1", base: str = BASE) -> dict[str, Comparison]:
    """Return every arm against the base model.

    Args:
        arms: All arms; without the base the result is empty.
        measure: What is compared.
        base: Name of the base's arm.
    """
    if base not in arms:
        return {}
    pairs = {name: compare(arm, arms[base], measure) for name, arm in arms.items() if name != base}
    return {name: found for name, found in pairs.items() if found is not None}


@dataclass(frozen=True)
class Stability:
    """How the runs of an arm end, seed by seed.

    Args:
        arm: Its name.
        seeds: How many.
        collapsed: Share of the seeds that collapsed, with its exact interval.
        drawdown: pass@1 of the best checkpoint minus that of the last, on the problems of the evaluation, by seed.
        worst_drawdown: The largest of them.
        fall_from_best: How far held-out pass@1 of the last checkpoint lies below the best one, the base included; the
            largest over seeds.
        largest_fall: The largest fall of held-out pass@1 from any checkpoint to a later one, over seeds.
        spread: Standard deviation over seeds of the last pass@1; None for one seed.
    """

    arm: str
    seeds: int
    collapsed: Interval
    drawdown: list[float]
    worst_drawdown: float
    fall_from_best: float
    largest_fall: float
    spread: float | None


def stability(arm: Arm, base_accuracy: float) -> Stability:
    """Return how the runs of a trained arm end.

    Args:
        arm: A trained arm.
        base_accuracy: pass@1 of the base model on the same problems.
    """
    last, best = (arm.scores("pass@1", name).mean(axis=1) for name in ("last", "best"))
    distinct = arm.scores("distinct", "last").mean(axis=1)
    collapsed = (last < COLLAPSE_ACCURACY * base_accuracy) | (distinct <= COLLAPSE_DISTINCT)
    curves = arm.selection()[1]
    drawdown = best - last
    return Stability(
        arm.name,
        len(last),
        share(int(collapsed.sum()), len(collapsed)),
        [float(x) for x in drawdown],
        float(drawdown.max()),
        max(worst_drawdown_to_last(curve) for curve in curves),
        max(worst_drawdown(curve) for curve in curves),
        float(last.std(ddof=1)) if len(last) > 1 else None,
    )


SUMMARY = ("pass@1", "pass@16", "maj@16", "response_length", "finished", "distinct")


def summary(arm: Arm, checkpoint: str | None = None) -> dict[str, Any]:
    """Return an arm's measures with intervals, and the slope on its own samples with an interval over seeds."""
    row: dict[str, Any] = {"arm": arm.name, "regime": arm.regime, "seeds": len(arm.seeds)}
    samples = arm.problems(checkpoint)[0]["samples"]
    for name in SUMMARY:
        measure = name.replace("@16", f"@{samples}") if samples < 16 else name
        row[name] = asdict_interval(bounded_interval(arm.scores(measure, checkpoint), bounds_of(measure)))
    table = arm.problems(checkpoint)[0]
    for name in ("base_logprob", "logprob"):
        row[name] = (
            asdict_interval(bounded_interval(arm.scores(name, checkpoint), bounds_of(name))) if name in table else None
        )
    if "logprob" in table and "base_logprob" in table:
        kl = arm.scores("logprob", checkpoint) - arm.scores("base_logprob", checkpoint)
        row["kl_base"] = asdict_interval(bounded_interval(kl, bounds_of("kl_base")))
    else:
        row["kl_base"] = None
    slopes = arm.slope(checkpoint=checkpoint)
    known = slopes[np.isfinite(slopes)] if slopes is not None else np.empty(0)
    row["alpha_own"] = asdict_interval(bounded_interval(known[:, None])) if known.size > 1 else None
    return row


def asdict_interval(interval: Interval) -> dict[str, Any]:
    """Return an interval as JSON."""
    return interval._asdict()


def asdict_comparison(found: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON."""
    row = asdict(found)
    return {**row, "difference": found.difference._asdict(), "bootstrap": found.bootstrap._asdict()}
