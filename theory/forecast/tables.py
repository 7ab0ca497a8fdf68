"""Known outcomes as `sharpen llm outcomes` stores them: ``outcomes.parquet`` and ``frontier.parquet`` in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.audit.certified import Seen
from sharpen.theory.core.problem import FloatArray

OUTCOMES, FRONTIER = "outcomes.parquet", "frontier.parquet"


def read_trees(folder: Path, names: Sequence[str]) -> list[Seen]:
    """Return the known outcomes of problems, in their order.

    A row of the frontier holds log u of a prefix, or the log of the sum of u of several that were cut together: since
    sum u^alpha <= (sum u)^alpha for alpha >= 1, both bound what lies below at every exponent.

    Args:
        folder: With ``outcomes.parquet`` (columns ``prompt_id``, ``logprob``, ``reward``) and ``frontier.parquet``
            (``prompt_id``, ``logprob``).
        names: The problems, each of which has outcomes.

    Raises:
        InputError: a file cannot be read or lacks a column, or a problem has no outcomes.
    """
    seen = _by_prompt(folder / OUTCOMES, ("logprob", "reward"))
    frontier = _by_prompt(folder / FRONTIER, ("logprob",))
    missing = next((name for name in names if name not in seen), None)
    if missing is not None:
        raise InputError("outcomes", str(folder), f"outcomes of every problem that is asked; of {missing} it has none")
    nothing = np.zeros((0, 1))
    return [Seen.of(seen[name][:, 0], seen[name][:, 1], frontier.get(name, nothing)[:, 0]) for name in names]


def _by_prompt(file: Path, columns: Sequence[str]) -> dict[str, FloatArray]:
    """Return the rows of each prompt, shape [rows, columns]."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table: Any = parquet.read_table(file, columns=["prompt_id", *columns])
    except (OSError, pa.ArrowException) as error:
        raise InputError("outcomes", str(file), f"a table with the columns prompt_id, {', '.join(columns)}") from error
    rows = np.stack([np.asarray(table[name], dtype=np.float64) for name in columns], axis=1)
    found: dict[str, list[int]] = {}
    for place, name in enumerate(table["prompt_id"].to_pylist()):
        found.setdefault(str(name), []).append(place)
    return {name: rows[places] for name, places in found.items()}
