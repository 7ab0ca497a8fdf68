"""When do sampled learners reach p^alpha, and what does it cost?

A study is a list of cells, one for each learner, alpha, number of outcomes or sequence length. A cell tries several
step sizes, chooses the one that reaches the target soonest on tuning seeds, and reports it on other seeds. A run has
reached the target at the first record from which on, to its end, effective alpha is within 5 % of alpha and
KL(pi || p^alpha) at most a share of KL(p || p^alpha): by the Gibbs identity J* - J(pi) = w_h KL(pi || pi*) that is the
share of the possible gain in J that is still missing. A run that passes by and leaves again has not reached it, nor has
one that collapsed on the mode although p^alpha is nearly there too.

Axis letters: S seeds, K records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.toy.dynamics.measures import ranks_below_median, student_t, wilson
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.studies.findings_core import Interval, over_seeds
from sharpen.toy.sweeps.config import SweepConfig
from sharpen.toy.sweeps.summary import read
from sharpen.toy.sweeps.sweep import sweep

TUNING = 16  # seeds that choose the step size, and report nothing
WITHIN = 0.01
SLOPE_WITHIN = 0.05
STUDIED = ("rloo", "reinforce", "off-policy", "tb-batch", "tb", "grpo", "ppo", "dapo", "best-of-n")
FloatArray = NDArray[np.float64]


class Cell(NamedTuple):
    """One line of a study.

    Args:
        study: Its name.
        name: What the cell is about, as ``alpha 4``.
        value: The number on the study's axis; NaN for names.
        learner: Of the cell.
        fields: Of the :class:`SweepConfig`, without seeds.
    """

    study: str
    name: str
    value: float
    learner: str
    fields: dict[str, Any]


class Reached(NamedTuple):
    """What one cell found.

    Args:
        cell: The cell.
        step_size: The one that reached the target soonest on the tuning seeds.
        samples: Of one update.
        share: Of the reported runs that reached the target.
        updates: Median updates until then, runs that did not reach it counted as later than all others; infinite ends
            where too few did. The interval is the distribution-free one of the median.
        effective_alpha: At the last record.
        missing: KL(pi || p^alpha) / KL(p || p^alpha) at the last record.
    """

    cell: Cell
    step_size: float
    samples: int
    share: Interval
    updates: Interval
    effective_alpha: Interval
    missing: Interval


def _cell(study: str, name: str, value: float, learner: str, steps: int, sizes: tuple[float, ...], **rest: Any) -> Cell:
    fields = {"learner": (learner,), "steps": steps, "record_every": max(1, steps // 500), "step_size": sizes, **rest}
    return Cell(study, name, value, learner, fields)


SIZES = (0.1, 0.3, 1.0, 3.0, 10.0)


def _by_learner() -> list[Cell]:
    # A standardised advantage is a few units long whatever the reward: its steps must be smaller.
    small = tuple(size / 10 for size in SIZES)
    standardised = {"grpo": small, "ppo": small, "dapo": small}
    sampled = [
        _cell("learners", name, math.nan, name, 2500, standardised.get(name, SIZES), alpha=(2.0,)) for name in STUDIED
    ]
    # The natural gradient's step must stay below 2 / w_h.
    exact = [("natural", (0.03, 0.1, 0.3, 1.0)), ("softmax", SIZES)]
    return sampled + [_cell("learners", name, math.nan, name, 2500, sizes, alpha=(2.0,)) for name, sizes in exact]


def _by_alpha() -> list[Cell]:
    return [
        _cell("alpha", f"alpha {alpha:g}", alpha, "rloo", 500, SIZES, alpha=(alpha,)) for alpha in (1.5, 2.0, 4.0, 8.0)
    ]


def _by_outcomes() -> list[Cell]:
    return [
        _cell("outcomes", f"{n} outcomes", n, "rloo", 1000, (*SIZES, 30.0), alpha=(2.0,), base=f"zipf:{n}")
        for n in (4, 8, 16, 32, 64)
    ]


def _by_length() -> list[Cell]:
    tree = {"policy": "tree", "tokens": (0.7, 0.3), "hazard": 0.02, "alpha": (2.0,)}
    return [
        _cell("length", f"{tokens} tokens", tokens, "rloo", 1000, SIZES[:4], longest=tokens, **tree)
        for tokens in (1, 2, 4, 6)
    ]


STUDIES: dict[str, Callable[[], list[Cell]]] = {
    "learners": _by_learner,
    "alpha": _by_alpha,
    "outcomes": _by_outcomes,
    "length": _by_length,
}


def config_of(cell: Cell, seeds: int) -> SweepConfig:
    """Return the sweep of a cell: the tuning seeds first, then ``seeds`` reported ones; exact learners have one run."""
    runs = 1 if LEARNERS.get(cell.learner).exact else TUNING + seeds
    return SweepConfig.model_validate({**cell.fields, "seeds": runs, "batch": runs})


def study(
    name: str,
    out: Path,
    *,
    seeds: int = 64,
    within: float = WITHIN,
    progress: Callable[[str, int, int], None] = lambda cell, done, total: None,
) -> list[Reached]:
    """Run, or continue, the sweeps of a study under ``out/name`` and return what each cell found.

    Args:
        name: One of ``STUDIES``.
        out: Folder of the sweeps.
        seeds: Reported runs of a sampled learner, beside ``TUNING`` that choose the step size.
        within: Share of KL(p || p^alpha) at which the target counts as reached.
        progress: Called with a cell's name, the work of its sweep done and in all.

    Raises:
        InputError: no study has that name, fewer than two seeds, ``within`` outside 0 to 1, or a folder that cannot be
            used.
    """
    if name not in STUDIES:
        raise InputError("study", name, ", ".join(STUDIES))
    if seeds < 2:
        raise InputError("seeds", seeds, "at least 2, for an interval")
    if not 0.0 < within < 1.0:
        raise InputError("within", within, "a share between 0 and 1")
    found = []
    for cell in STUDIES[name]():
        folder = out / name / cell.name.replace(" ", "-")
        table = sweep(
            config_of(cell, seeds), folder, progress=lambda done, total, cell=cell: progress(cell.name, done, total)
        )
        found.append(judge(cell, read(table), within))
    return found


def judge(cell: Cell, runs: dict[str, NDArray[Any]], within: float = WITHIN) -> Reached:
    """Return what a cell's table says: the step size chosen on the tuning seeds, reported on the others."""
    by_size = {size: _times(runs, cell, size, within) for size in cell.fields["step_size"]}  # updates, shape [S]
    exact = LEARNERS.get(cell.learner).exact
    tuning = {size: times if exact else times[:TUNING] for size, times in by_size.items()}
    # A mean over 1 / updates ranks step sizes also where less than half of the runs arrive.
    best = max(tuning, key=lambda size: float(np.mean(1.0 / tuning[size])))
    reported = slice(None) if exact else slice(TUNING, None)
    times = by_size[best][reported]
    at_best = {name: _last(runs, name, best)[reported] for name in ("effective_alpha", "kl_optimum")}
    count = int(np.isfinite(times).sum())
    share = Interval(count / times.size, *((count, count) if exact else wilson(count, times.size)))
    return Reached(
        cell,
        best,
        0 if exact else int(runs["group_size"][0]),
        share,
        median_interval(times),
        over_seeds(at_best["effective_alpha"]),
        over_seeds(at_best["kl_optimum"] / _first(runs, "kl_optimum")),
    )


def _of(runs: dict[str, NDArray[Any]], name: str, size: float) -> FloatArray:
    """Return a measure of one step size, shape [S, K]."""
    chosen = runs["step_size"] == size
    records = len(np.unique(runs["step"]))
    return runs[name][chosen].astype(float).reshape(-1, records)


def _last(runs: dict[str, NDArray[Any]], name: str, size: float) -> FloatArray:
    return _of(runs, name, size)[:, -1]


def _first(runs: dict[str, NDArray[Any]], name: str) -> float:
    return float(runs[name][runs["step"] == 0][0])


def _times(runs: dict[str, NDArray[Any]], cell: Cell, size: float, within: float) -> FloatArray:
    """Return the update of the first record that is followed by none off the target, infinity without one, [S]."""
    (alpha,) = cell.fields["alpha"]
    there = _of(runs, "kl_optimum", size) <= within * _first(runs, "kl_optimum")
    there &= np.abs(_of(runs, "effective_alpha", size) - alpha) <= SLOPE_WITHIN * alpha
    stays = np.logical_and.accumulate(there[:, ::-1], axis=1)[:, ::-1]
    steps = np.unique(runs["step"]).astype(float)
    return np.where(stays[:, -1], steps[stays.argmax(axis=1)], np.inf)


def median_interval(values: FloatArray) -> Interval:
    """Return the median with its distribution-free 95% interval, from the binomial law of order statistics.

    Example:
        >>> median_interval(np.arange(1.0, 65.0))
        Interval(mean=32.5, low=24.0, high=41.0)
    """
    ordered, size = np.sort(values), values.size
    middle = float(np.median(ordered)) if np.all(np.isfinite(ordered[size // 2 : size // 2 + 1])) else math.inf
    if size == 1:
        return Interval(middle, middle, middle)
    below = ranks_below_median(size)
    return Interval(middle, float(ordered[max(below - 1, 0)]), float(ordered[min(size - below, size - 1)]))


def exponent(found: list[Reached]) -> Interval | None:
    """Return the slope of log updates on log value over a study's cells, with its t-interval over cells.

    None where fewer than three cells have a number and a finite median.
    """
    points = [(r.cell.value, r.updates.mean) for r in found if r.cell.value > 0 and math.isfinite(r.updates.mean)]
    if len(points) < 3:
        return None
    x, y = np.log(np.array(points)).T
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    error = math.sqrt(float(residual @ residual) / (len(points) - 2) / float(x @ x))
    half = student_t(len(points) - 2) * error
    return Interval(slope, slope - half, slope + half)
