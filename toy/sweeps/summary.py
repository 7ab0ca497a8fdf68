"""A sweep's table, one line per setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.toy.dynamics.measures import FIXED, fixation, mean_interval, ranks_below_median, wilson
from sharpen.toy.sweeps.config import AXES

AT_THE_END = (
    "expected_reward",
    "length",
    "entropy",
    "kl_base",
    "kl_optimum",
    "face_mass",
    "effective_alpha",
    "gradient_snr",
)
_READ = (*AT_THE_END, "step", "top1", "top_outcome")


def read(table: Path) -> dict[str, NDArray[Any]]:
    """Return the columns of a sweep's table; missing numbers are NaN.

    Raises:
        InputError: the file is no sweep's table.
    """
    try:
        stored = pq.read_table(table)
        columns = _arrays(stored)
    except (OSError, ValueError) as error:
        raise InputError("table", str(table), "the sweep.parquet of a finished sweep") from error
    if missing := [name for name in (*AXES, "seed", "step", "top1", "top_outcome") if name not in columns]:
        raise InputError("table", str(table), f"a sweep's table; this one lacks {', '.join(missing)}")
    return columns


def summarise_table(table: Path) -> list[dict[str, Any]]:
    """Return :func:`summarise` of a table that need not fit into memory: groups of rows are read one by one.

    Raises:
        InputError: the file is no sweep's table.
    """
    try:
        with pq.ParquetFile(table) as file:
            groups = [file.read_row_group(i, columns=[*AXES, *_READ]) for i in range(file.num_row_groups)]
            ends = [_ends(_arrays(group)) for group in groups]
    except (OSError, ValueError, KeyError) as error:
        raise InputError("table", str(table), "the sweep.parquet of a finished sweep") from error
    return _rows({name: np.concatenate([end[name] for end in ends]) for name in ends[0]})


def summarise(columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return for each setting, in the table's order, where its runs ended.

    Returns:
        The setting's axes; ``seeds``; mean and 95% t-interval over seeds of measures at the last step; ``collapsed``,
        the share of runs whose top-1 mass is at least 0.99 at the end, with its 95% Wilson interval; ``fixation``,
        the same for each outcome that any run of the table is fixed at; and ``collapse_step``, the median over runs of
        the first recorded step with that top-1 mass, with its distribution-free 95% interval. None where there is no
        number; runs that do not collapse count as later than all others, so a median or an end among them is None.
    """
    return _rows(_ends(columns))


def _ends(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return one entry per run: its axes, measures at the last step, and when it collapsed (infinity: never)."""
    starts = np.flatnonzero(columns["step"] == 0)
    records = len(columns["step"]) // len(starts)
    last = starts + records - 1
    found = {axis: np.array(_comparable(columns[axis][starts]), dtype=object) for axis in AXES}
    found |= {name: columns[name][last].astype(float) for name in (*AT_THE_END, "top1", "top_outcome")}
    collapsed = columns["top1"].reshape(-1, records) >= FIXED
    first = columns["step"].reshape(-1, records)[0][collapsed.argmax(axis=1)]
    return found | {"collapse": np.where(collapsed.any(axis=1), first.astype(float), np.inf)}


def _rows(ends: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    known = np.isfinite(ends["top_outcome"])
    vertices = np.unique(ends["top_outcome"][(ends["top1"] >= FIXED) & known]).astype(int).tolist()
    of: dict[tuple[Any, ...], list[int]] = {}
    for run, key in enumerate(zip(*(ends[axis].tolist() for axis in AXES), strict=True)):
        of.setdefault(key, []).append(run)
    return [
        _row(dict(zip(AXES, key, strict=True)), {name: end[runs] for name, end in ends.items()}, vertices)
        for key, runs in of.items()
    ]


def _row(axes: dict[str, Any], runs: dict[str, NDArray[Any]], vertices: list[int]) -> dict[str, Any]:
    row: dict[str, Any] = {**axes, "seeds": len(runs["top1"])}
    for name in AT_THE_END:
        known = bool(np.all(np.isfinite(runs[name])))
        row[name], row[f"{name}_interval"] = mean_interval(runs[name]) if known else (None, None)
    count = int(np.sum(runs["top1"] >= FIXED))
    row["collapsed"], row["collapsed_interval"] = count / len(runs["top1"]), wilson(count, len(runs["top1"]))
    row["fixation"] = fixation(runs["top_outcome"], runs["top1"], vertices)
    row["collapse_step"], row["collapse_step_interval"] = _median(runs["collapse"])
    return row


def _median(times: NDArray[np.float64]) -> tuple[float | None, list[float | None] | None]:
    """Return the median and its 95% interval from the binomial law of order statistics; None for infinity.

    Example:
        >>> _median(np.array([3.0, 1.0, 2.0, np.inf, 4.0, 5.0, 6.0]))
        (4.0, [1.0, None])
    """
    ordered, size = np.sort(times), len(times)
    # Two middle entries: if the upper is infinite, so is their mean.
    middle = float(np.median(ordered)) if np.isfinite(ordered[size // 2]) else None
    below = ranks_below_median(size)
    if size < 2 or below < 1:
        return middle, None
    ends = (float(ordered[below - 1]), float(ordered[size - below]))
    return middle, [end if np.isfinite(end) else None for end in ends]


def _arrays(table: pa.Table) -> dict[str, NDArray[Any]]:
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def _comparable(column: NDArray[Any]) -> list[Any]:
    """Return a column's entries, None for NaN (which does not equal itself)."""
    return [None if isinstance(entry, float) and np.isnan(entry) else entry for entry in column.tolist()]
