"""Sweeps: a grid of settings, many seeds each, batch by batch into one table.

A batch is what is computed at once, saved at once and, after a kill, not computed again.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa
import pyarrow.parquet as pq

from sharpen.objective import InputError
from sharpen.objective.cluster import connect
from sharpen.objective.storage import files, runfolder
from sharpen.toy.sweeps.batches import Batch, batches, compute
from sharpen.toy.sweeps.config import SweepConfig

TABLE, PARTS = "sweep.parquet", "parts"
MADE_PARTS = (f"{PARTS}/[0-9]*.parquet", f"{PARTS}/[0-9]*.npz")
MADE = (TABLE, *MADE_PARTS)
METADATA = "sharpen.config"  # of the table: the sweep's settings in JSON
GROUP_ROWS = 2**18  # of the table at most in one group, some 60 MB


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
        InputError: the folder cannot be used, or no Ray cluster answers.
    """
    # Before the folder exists: a start that fails leaves nothing.
    ray = connect(ray_address) if ray_address is not None and (force or not (out / TABLE).is_file()) else None
    try:
        with runfolder.opened(out, config, force, MADE):
            if not (out / TABLE).is_file():
                _swept(config, out, ray, progress)
            return out / TABLE
    finally:
        if ray is not None:
            ray.shutdown()


def compute_table(config: SweepConfig, progress: Progress = lambda done, total: None) -> pa.Table:
    """Run a sweep and return its table, without a folder.

    Args:
        config: The grid.
        progress: As in :func:`sweep`.
    """
    todo, done = batches(config), 0

    def report(updates: int) -> None:
        progress((done + updates) * config.batch, len(todo) * config.steps * config.batch)

    tables = {}
    for batch, rows in _computed(config, None, todo, None, report):
        tables[batch.number] = rows
        done += config.steps
        report(0)
    return pa.concat_tables([tables[batch.number] for batch in todo])


def _swept(config: SweepConfig, out: Path, ray: Any | None, progress: Progress) -> None:
    """Compute what is missing in a folder that is open, and write the table."""
    todo = batches(config)
    missing = [batch for batch in todo if not _part(out, batch).is_file()]
    total, done = len(todo) * config.steps, (len(todo) - len(missing)) * config.steps

    def report(updates: int) -> None:
        progress((done + updates) * config.batch, total * config.batch)

    report(0)
    for batch, rows in _computed(config, out, missing, ray, report):
        _write(_part(out, batch), [rows], config)
        _kept(out, batch).unlink(missing_ok=True)
        done += config.steps
        report(0)
    _write(out / TABLE, (_stored(_part(out, batch)) for batch in todo), config)
    files.remove_made(out, MADE_PARTS)


def _computed(
    config: SweepConfig, out: Path | None, missing: list[Batch], ray: Any | None, report: Callable[[int], None]
) -> Iterator[tuple[Batch, pa.Table]]:
    if ray is not None:
        from sharpen.toy.sweeps.spread import computed_on_ray

        yield from computed_on_ray(config, missing, ray)
        return
    devices = jax.local_devices()[: config.devices(config.task())]
    if len(devices) == 1:
        for batch in missing:
            yield batch, compute(config, batch, report, _keep(out, batch))
        return
    # One batch a device, not one batch over all: the program, and so every bit, is the same as on one device.
    pool, free = ThreadPoolExecutor(len(devices)), queue.SimpleQueue[Any]()
    for device in devices:
        free.put(device)
    try:
        waiting = {pool.submit(_compute_on, free, config, batch, _keep(out, batch)): batch for batch in missing}
        for finished in as_completed(waiting):
            yield waiting.pop(finished), finished.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C: batches that have not begun are for the next time


def _compute_on(free: queue.SimpleQueue[Any], config: SweepConfig, batch: Batch, keep: Path | None) -> pa.Table:
    device = free.get()
    try:
        with jax.default_device(device):
            return compute(config, batch, keep=keep)
    finally:
        free.put(device)


def _part(out: Path, batch: Batch) -> Path:
    return out / PARTS / f"{batch.number:06d}.parquet"


def _stored(part: Path) -> pa.Table:
    try:
        return pq.read_table(part)
    except (OSError, ValueError) as error:
        way_out = "delete it, and the same command computes that batch again"
        raise InputError("part", str(part), f"what a sweep saved there ({error}); {way_out}") from error


def _kept(out: Path, batch: Batch) -> Path:
    return out / PARTS / f"{batch.number:06d}.npz"


def _keep(out: Path | None, batch: Batch) -> Path | None:
    return None if out is None else _kept(out, batch)


def _write(file: Path, tables: Iterable[pa.Table], config: SweepConfig) -> None:
    """Write tables one after the other so that a reader, or a run after a kill, sees all of them or none.

    Groups of rows hold whole runs, so that a reader can take them one by one. The file's metadata hold the settings
    that are the same in all rows.
    """
    records = len(config.recorded())
    group = records * max(1, GROUP_ROWS // records)
    with files.replacing(file) as part, ExitStack() as stack:
        writer = None
        for rows in tables:
            rows = rows.replace_schema_metadata({METADATA: config.model_dump_json()})
            writer = writer or stack.enter_context(pq.ParquetWriter(part, rows.schema))
            writer.write_table(rows, row_group_size=group)
        assert writer is not None, "a sweep has at least one batch"
