"""The batches of a sweep: which runs are computed together, and computing them.

A batch's width is fixed by the configuration and short batches are filled up, so a run's numbers do not depend on where
or when it was computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sharpen.toy.engine import Ensemble, Machine, run, run_keys, stack, start
from sharpen.toy.observe import measures, observer
from sharpen.toy.signal_to_noise import closed_form
from sharpen.toy.sweep_config import AXES, Point, SweepConfig


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
    points = config.points()
    for options in dict.fromkeys((point.columns["learner"], point.options) for point in points):
        same = [point for point in points if (point.columns["learner"], point.options) == options]
        runs = [(point, seed) for point in same for seed in range(config.seeds)]
        for first in range(0, len(runs), config.batch):
            chosen = runs[first : first + config.batch]
            found.append(Batch(len(found), [point for point, _ in chosen], [seed for _, seed in chosen]))
    return found


def compute(config: SweepConfig, batch: Batch, progress: Callable[[int], None] = lambda updates: None) -> pa.Table:
    """Run a batch and return its rows, in the order setting, seed, step.

    Args:
        config: The sweep.
        batch: One of its batches.
        progress: Called with the updates that every run of the batch has done.
    """
    filled = [*range(len(batch.points))] + [0] * (config.batch - len(batch.points))
    (problem, family), keys = config.problem(), run_keys(config.seed, config.seeds)
    kind, options = batch.points[0].columns["learner"], batch.points[0].options
    ensemble = Ensemble(
        Machine(kind, family, options, observer(config.k, closed_form(kind, family, options))),
        stack([config.setting(batch.points[i], problem) for i in filled]),
        keys[[batch.seeds[i] for i in filled]],
    )
    reached = start(ensemble)
    for step in run(ensemble, reached, steps=config.steps, record_every=config.every):
        progress(step.updates)
        reached = step
    return _as_table(config, batch, reached.records)


def _as_table(config: SweepConfig, batch: Batch, records: dict[str, np.ndarray]) -> pa.Table:
    """Return the rows of a batch; ``records`` holds arrays of shape [K, R]."""
    runs = len(batch.points)
    steps = np.arange(config.steps // config.every + 1) * config.every
    columns: dict[str, Any] = {}
    for axis in AXES:
        values = [point.columns[axis] for point in batch.points]
        kind = pa.string() if isinstance(values[0], str) else pa.int64() if axis == "group_size" else pa.float64()
        columns[axis] = pa.array(np.repeat(np.array(values, dtype=object), len(steps)), type=kind)
    columns["seed"] = np.repeat(np.array(batch.seeds), len(steps))
    columns["step"] = np.tile(steps, runs)
    for name in measures(config.k):
        record = records[name]
        numbers = record[:, :runs].T.ravel()
        missing = np.isnan(numbers)
        if name == "top_outcome":
            numbers = config.outcomes()[np.where(missing, 0, numbers).astype(np.int64)]
        columns[name] = pa.array(numbers, mask=missing)
    return pa.table(columns)
