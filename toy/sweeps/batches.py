"""The batches of a sweep: which runs are computed together, and computing them.

A batch's width is fixed by the configuration and short batches are filled up, so a run's numbers do not depend on where
or when it was computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sharpen.toy.dynamics.engine import Ensemble, Machine, Progress, load, run, run_at, run_keys, save, stack, start
from sharpen.toy.dynamics.observe import measures, observer
from sharpen.toy.dynamics.signal_to_noise import closed_form
from sharpen.toy.problems.prompts import Task
from sharpen.toy.problems.setting import Setting
from sharpen.toy.sweeps.config import AXES, Point, SweepConfig

SAVE_EVERY = 20.0  # seconds between two saves of an unfinished batch


class Batch(NamedTuple):
    """Runs that are computed together.

    Args:
        number: Of the batch.
        points: The setting of each run.
        seeds: The seed's number of each run.
    """

    number: int
    points: list[Point]
    seeds: list[int]


def batches(config: SweepConfig) -> list[Batch]:
    """Return the batches of a sweep; each holds runs of one compiled learner, in the table's order."""
    found: list[Batch] = []
    points, width = config.points(), config.batch_width(config.task())
    for options in dict.fromkeys((point.columns["learner"], point.options) for point in points):
        same = [point for point in points if (point.columns["learner"], point.options) == options]
        runs = [(point, seed) for point in same for seed in range(config.seeds)]
        for first in range(0, len(runs), width):
            chosen = runs[first : first + width]
            found.append(Batch(len(found), [point for point, _ in chosen], [seed for _, seed in chosen]))
    return found


def compute(
    config: SweepConfig,
    batch: Batch,
    progress: Callable[[int], None] = lambda updates: None,
    keep: Path | None = None,
) -> pa.Table:
    """Run a batch and return its rows, in the order setting, seed, step.

    Args:
        config: The sweep.
        batch: One of its batches.
        progress: Called with the updates that every run of the batch has done.
        keep: File in which the unfinished batch is saved now and then, and from which it is continued.
    """
    task = config.task()
    ensemble = _ensemble(config, batch, task)
    begun = start(ensemble)
    reached = load(keep, begun) if keep is not None and keep.exists() else begun
    saved = time.monotonic()
    for step in _advance(config, ensemble, reached):
        reached = step
        if keep is not None and time.monotonic() - saved >= SAVE_EVERY:
            save(keep, reached)
            saved = time.monotonic()
        progress(step.updates)
    return _as_table(config, batch, task, reached.records)


def _advance(config: SweepConfig, ensemble: Ensemble, reached: Progress) -> Iterator[Progress]:
    if config.record_at is not None:
        return run_at(ensemble, reached, config.record_at)
    return run(ensemble, reached, steps=config.steps, record_every=config.every)


def _ensemble(config: SweepConfig, batch: Batch, task: Task) -> Ensemble:
    missing = config.batch_width(task) - len(batch.points)
    distinct = {id(point): point for point in batch.points}
    rows = {key: row for row, key in enumerate(distinct)}
    settings = stack([config.setting(point, task) for point in distinct.values()])
    chosen = [*(rows[id(point)] for point in batch.points), *[0] * missing]  # runs to fill up with: the first again
    seeds = [*batch.seeds, *[batch.seeds[0]] * missing]
    kind, options = batch.points[0].columns["learner"], batch.points[0].options
    signal = closed_form(kind, task.family, options)
    machine = Machine(kind, task.family, options, observer(config.k, signal, config.sizes(task)))
    return Ensemble(
        machine, Setting(*(np.asarray(part)[chosen] for part in settings)), run_keys(config.seed, config.seeds)[seeds]
    )


def _as_table(config: SweepConfig, batch: Batch, task: Task, records: dict[str, np.ndarray]) -> pa.Table:
    """Return the rows of a batch; ``records`` holds arrays of shape [K, R]."""
    runs = len(batch.points)
    steps = np.array(config.recorded())
    columns: dict[str, Any] = {}
    for axis in AXES:
        values = [point.columns[axis] for point in batch.points]
        kind = pa.string() if isinstance(values[0], str) else pa.int64() if axis == "group_size" else pa.float64()
        columns[axis] = pa.array(np.repeat(np.array(values, dtype=object), len(steps)), type=kind)
    columns["seed"] = np.repeat(np.array(batch.seeds), len(steps))
    columns["step"] = np.tile(steps, runs)
    for name in measures(config.k, config.sizes(task)):
        record = records[name]
        numbers = record[:, :runs].T.ravel()
        missing = np.isnan(numbers)
        if name == "top_outcome":
            numbers = task.outcomes[np.where(missing, 0, numbers).astype(np.int64)]
        columns[name] = pa.array(numbers, mask=missing)
    return pa.table(columns)
