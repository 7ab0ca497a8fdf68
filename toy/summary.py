"""A sweep's table, one line a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.toy.measures import FIXED, fixation, mean_interval, wilson
from sharpen.toy.sweep_config import AXES

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


def read(table: Path) -> dict[str, NDArray[Any]]:
    """Return the columns of a sweep's table; missing numbers are NaN.

    Raises:
        InputError: the file is no sweep's table.
    """
    try:
        stored = pq.read_table(table)
        columns = {name: stored[name].to_numpy(zero_copy_only=False) for name in stored.column_names}
    except (OSError, ValueError) as error:
        raise InputError("table", str(table), "the sweep.parquet of a finished sweep") from error
    if missing := [name for name in (*AXES, "seed", "step", "top1", "top_outcome") if name not in columns]:
        raise InputError("table", str(table), f"a sweep's table; this one lacks {', '.join(missing)}")
    return columns


def summarise(columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return for each setting, in the table's order, where its runs ended.

    Returns:
        The setting's axes; ``seeds``; mean and 95% t-interval over seeds of measures at the last step; ``collapsed``,
        the share of runs whose top-1 mass is at least 0.99 at the end, with its 95% Wilson interval; ``fixation``,
        the same for each outcome that any run of the table is fixed at; and ``collapse_step``, the median first step
        of a collapse among the runs that have one. None where there is no number.
    """
    first = columns["step"] == 0
    starts = np.flatnonzero(first)
    keys = list(zip(*(_comparable(columns[axis][starts]) for axis in AXES), strict=True))
    records = len(first) // len(starts)
    shaped = {name: column.reshape(len(starts), records) for name, column in columns.items()}
    last = shaped["top1"][:, -1] >= FIXED
    vertices = np.unique(shaped["top_outcome"][last, -1]).astype(int).tolist()
    rows = []
    for key in dict.fromkeys(keys):
        runs = [i for i, other in enumerate(keys) if other == key]
        own = {name: grid[runs] for name, grid in shaped.items()}
        rows.append(_row(dict(zip(AXES, key, strict=True)), own, vertices))
    return rows


def _row(axes: dict[str, Any], runs: dict[str, NDArray[Any]], vertices: list[int]) -> dict[str, Any]:
    row: dict[str, Any] = {**axes, "seeds": len(runs["seed"])}
    for name in AT_THE_END:
        ends = runs[name][:, -1]
        known = bool(np.all(np.isfinite(ends)))
        row[name], row[f"{name}_interval"] = mean_interval(ends) if known else (None, None)
    collapsed = runs["top1"] >= FIXED
    count = int(collapsed[:, -1].sum())
    row["collapsed"], row["collapsed_interval"] = count / len(collapsed), wilson(count, len(collapsed))
    row["fixation"] = fixation(runs["top_outcome"][:, -1], runs["top1"][:, -1], vertices)
    ever = collapsed.any(axis=1)
    firsts = runs["step"][ever, collapsed[ever].argmax(axis=1)]
    row["collapse_step"] = float(np.median(firsts)) if ever.any() else None
    return row


def _comparable(column: NDArray[Any]) -> list[Any]:
    """Return a column's entries, None for NaN (which does not equal itself)."""
    return [None if isinstance(entry, float) and np.isnan(entry) else entry for entry in column.tolist()]
