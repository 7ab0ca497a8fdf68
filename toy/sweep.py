"""Sweeps: a grid of settings, many seeds each, batch by batch into one table.

A batch is what is computed at once, saved at once and, after a kill, not computed again. Its width is fixed by the
configuration and short batches are filled up, so a run's numbers do not depend on where or when it was computed.
"""

from __future__ import annotations

import queue
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharpen.objective import runfolder
from sharpen.toy.engine import Ensemble, Machine, run, run_keys, stack, start
from sharpen.toy.observe import measures, observer
from sharpen.toy.sweep_config import AXES, Point, SweepConfig

TABLE, PARTS = "sweep.parquet", "parts"


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


Progress = Callable[[int, int], None]  # (runs x updates done, in all)


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
    ensemble = Ensemble(
        Machine(batch.points[0].columns["learner"], family, batch.points[0].options, observer(config.k)),
        stack([config.setting(batch.points[i], problem) for i in filled]),
        keys[[batch.seeds[i] for i in filled]],
    )
    reached = start(ensemble)
    for step in run(ensemble, reached, steps=config.steps, record_every=config.every):
        progress(step.updates)
        reached = step
    return _as_table(config, batch, reached.records)


def sweep(
    config: SweepConfig,
    out: Path,
    *,
    force: bool = False,
    ray_address: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Run, or continue, a sweep in the folder ``out`` and return the path of its table.

    Args:
        config: The grid.
        out: Run folder: ``config.yaml``, ``provenance.json``, ``parts/`` while it runs, ``sweep.parquet`` in the end.
        force: Delete an earlier run in ``out`` first.
        ray_address: Compute the batches on this Ray cluster (``local`` starts one on this machine).
        progress: Called with the work done and the work in all, in runs x updates.

    Raises:
        InputError: the folder cannot be used.
    """
    runfolder.open_folder(out, config, force)
    table = out / TABLE
    if table.is_file():
        return table
    todo = batches(config)
    missing = [batch for batch in todo if not _part(out, batch).is_file()]
    total, done = len(todo) * config.steps, (len(todo) - len(missing)) * config.steps
    (out / PARTS).mkdir(exist_ok=True)

    def report(updates: int) -> None:
        progress((done + updates) * config.batch, total * config.batch)

    for batch, rows in _computed(config, missing, ray_address, report):
        _write(_part(out, batch), [rows])
        done += config.steps
    report(0)
    _write(table, (pq.read_table(_part(out, batch)) for batch in todo))
    shutil.rmtree(out / PARTS)
    return table


def _computed(
    config: SweepConfig, missing: list[Batch], ray_address: str | None, report: Callable[[int], None]
) -> Iterator[tuple[Batch, pa.Table]]:
    if ray_address is not None:
        from sharpen.toy.spread import computed_on_ray

        yield from computed_on_ray(config, missing, ray_address)
        return
    devices = jax.local_devices()
    if len(devices) == 1:
        for batch in missing:
            yield batch, compute(config, batch, report)
        return
    # One batch a device, not one batch over all: the program, and so every bit, is the same as on one device.
    with ThreadPoolExecutor(len(devices)) as pool:
        free = queue.SimpleQueue[jax.Device]()
        for device in devices:
            free.put(device)
        waiting = {pool.submit(_compute_on, free, config, batch): batch for batch in missing}
        for finished in as_completed(waiting):
            yield waiting[finished], finished.result()


def _compute_on(free: queue.SimpleQueue[jax.Device], config: SweepConfig, batch: Batch) -> pa.Table:
    device = free.get()
    try:
        with jax.default_device(device):
            return compute(config, batch)
    finally:
        free.put(device)


def _part(out: Path, batch: Batch) -> Path:
    return out / PARTS / f"{batch.number:06d}.parquet"


def _write(file: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables one after the other so that a reader, or a run after a kill, sees all of them or none."""
    beside = file.with_suffix(".tmp")
    writer = None
    for rows in tables:
        writer = writer or pq.ParquetWriter(beside, rows.schema)
        writer.write_table(rows)
    assert writer is not None, "a sweep has at least one batch"
    writer.close()
    beside.replace(file)


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
        columns[name] = pa.array(numbers, mask=np.isnan(numbers))
    return pa.table(columns)
