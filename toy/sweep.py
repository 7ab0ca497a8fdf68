"""Sweeps: a grid of settings, many seeds each, batch by batch into one table.

A batch is what is computed at once, saved at once and, after a kill, not computed again.
"""

from __future__ import annotations

import queue
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa
import pyarrow.parquet as pq

from sharpen.objective import runfolder
from sharpen.toy.batches import Batch, batches, compute
from sharpen.toy.sweep_config import SweepConfig

TABLE, PARTS = "sweep.parquet", "parts"


Progress = Callable[[int, int], None]  # (runs x updates done, in all)


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
        free = queue.SimpleQueue[Any]()
        for device in devices:
            free.put(device)
        waiting = {pool.submit(_compute_on, free, config, batch): batch for batch in missing}
        for finished in as_completed(waiting):
            yield waiting[finished], finished.result()


def _compute_on(free: queue.SimpleQueue[Any], config: SweepConfig, batch: Batch) -> pa.Table:
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
