"""Sweeps: a grid of settings, many seeds each, batch by batch into one table.

A batch is what is computed at once, saved at once and, after a kill, not computed again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
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
    todo = batches(config)
    count = _Count(config, len(todo), 0, progress)
    tables = {batch.number: rows for batch, rows in _computed(config, None, todo, None, count)}
    return pa.concat_tables([tables[batch.number] for batch in todo])


class _Count:
    """Tells how much is done: whole batches, and the updates that unfinished ones have reached."""

    def __init__(self, config: SweepConfig, batches: int, finished: int, told: Progress) -> None:
        self._config, self._batches, self._finished, self._told = config, batches, finished, told
        self._reached: dict[int, int] = {}
        self._lock = threading.Lock()
        self._tell()

    def at(self, batch: Batch, updates: int) -> None:
        with self._lock:
            self._reached[batch.number] = updates
            self._tell()

    def ended(self, batch: Batch) -> None:
        with self._lock:
            self._reached.pop(batch.number, None)
            self._finished += 1
            self._tell()

    def _tell(self) -> None:
        steps, width = self._config.steps, self._config.batch
        done = self._finished * steps + sum(self._reached.values())
        self._told(done * width, self._batches * steps * width)


class _StoppedError(Exception):
    """The sweep ends before this batch does."""


def _swept(config: SweepConfig, out: Path, ray: Any | None, progress: Progress) -> None:
    """Compute what is missing in a folder that is open, and write the table."""
    todo = batches(config)
    missing = [batch for batch in todo if not _part(out, batch).is_file()]
    count = _Count(config, len(todo), len(todo) - len(missing), progress)
    for batch, rows in _computed(config, out, missing, ray, count):
        _write(_part(out, batch), [rows], config)
        _kept(out, batch).unlink(missing_ok=True)
    _write(out / TABLE, (_stored(_part(out, batch)) for batch in todo), config)
    files.remove_made(out, MADE_PARTS)


def _computed(
    config: SweepConfig, out: Path | None, missing: list[Batch], ray: Any | None, count: _Count
) -> Iterator[tuple[Batch, pa.Table]]:
    """Yield batches with their rows as they are done; one counts as ended when the next is asked for."""
    if ray is not None:
        from sharpen.toy.sweeps.spread import computed_on_ray

        found = computed_on_ray(config, missing, ray)
    else:
        devices = jax.local_devices()[: min(config.devices(config.task()), max(1, len(missing)))]
        several = len(devices) > 1
        found = _on_several(config, out, missing, devices, count) if several else _on_one(config, out, missing, count)
    for batch, rows in found:
        yield batch, rows
        count.ended(batch)


def _on_one(
    config: SweepConfig, out: Path | None, missing: list[Batch], count: _Count
) -> Iterator[tuple[Batch, pa.Table]]:
    for batch in missing:
        yield batch, compute(config, batch, partial(count.at, batch), _keep(out, batch))


def _on_several(
    config: SweepConfig, out: Path | None, missing: list[Batch], devices: list[Any], count: _Count
) -> Iterator[tuple[Batch, pa.Table]]:
    """One batch a device, not one batch over all: the program, and so every bit, is the same as on one device."""
    pool, free, stop = ThreadPoolExecutor(len(devices)), queue.SimpleQueue[Any](), threading.Event()
    for device in devices:
        free.put(device)

    def on_a_device(batch: Batch) -> pa.Table:
        device = free.get()
        try:
            with jax.default_device(device):
                return compute(config, batch, partial(reached, batch), _keep(out, batch))
        finally:
            free.put(device)

    def reached(batch: Batch, updates: int) -> None:
        if stop.is_set():
            raise _StoppedError
        count.at(batch, updates)

    try:
        waiting = {pool.submit(on_a_device, batch): batch for batch in missing}
        for finished in as_completed(waiting):
            yield waiting.pop(finished), finished.result()
    finally:
        stop.set()  # after Ctrl-C: batches that have begun stop at their next chunk, the others do not begin
        pool.shutdown(cancel_futures=True)


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
