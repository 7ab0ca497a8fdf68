"""Sweeping from Python: a grid in, a table out, and no folder unless one is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sharpen.objective.checked import checked
from sharpen.theory.core.problem import Problem
from sharpen.toy.problems.numbers import problem_texts
from sharpen.toy.sweeps.config import AXES, SweepConfig
from sharpen.toy.sweeps.sweep import Progress, compute_table
from sharpen.toy.sweeps.sweep import sweep as into_folder

LISTS = (*AXES, "k", "tokens", "start", "prompt_weights", "record_at")


def sweep(
    grid: Mapping[str, Any] | SweepConfig | None = None,
    *,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda done, total: None,
    **fields: Any,
) -> pd.DataFrame:
    """Run every combination of the listed values with many seeds.

    Args:
        grid: Fields of :class:`sharpen.toy.sweeps.config.SweepConfig`, or one of these. A single value stands for a
            list of it; ``base`` may be a problem.
        out: Run folder, made or continued; None keeps everything in memory.
        force: Delete an earlier run in ``out`` first.
        progress: Called with the work done and the work in all, in runs x updates.
        fields: More fields, which win over those of ``grid``.

    Returns:
        The columns of ``sweep.parquet`` (docs/toy.md), a row for each setting, seed and recorded step; a missing number
        is NaN.

    Raises:
        InputError: a field or the folder cannot be used.

    Example:
        >>> table = sweep(alpha=[1, 2], learner="natural", seeds=1, steps=200, record_every=200)
        >>> table[table.step == 200][["alpha", "effective_alpha"]].round(3).values.tolist()
        [[1.0, 1.0], [2.0, 2.0]]
    """
    given = grid.model_dump() if isinstance(grid, SweepConfig) else dict(grid or {})
    given |= fields
    if isinstance(given.get("base"), Problem):
        given |= problem_texts(given["base"])
    config = checked(SweepConfig, {name: _listed(name, value) for name, value in given.items()})
    if out is None:
        return compute_table(config, progress).to_pandas()
    return pd.read_parquet(into_folder(config, Path(out), force=force, progress=progress))


def _listed(name: str, given: Any) -> Any:
    if isinstance(given, np.ndarray) and name in LISTS:
        given = given.tolist()
    nothing = given is None and name in ("prompt_weights", "record_at")
    single = name in LISTS and not nothing and not isinstance(given, list | tuple)
    return [given] if single else given
