"""What a result keeps of an evaluation: one row a problem, without the responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sharpen.llm.evaluation.records import Record


def by_problem(records: Sequence[Record], samples: int) -> dict[str, Any]:
    """Return the measures of each problem.

    Args:
        records: One a problem, each with ``samples`` responses.
        samples: n.

    Returns:
        ``samples``; ``ids``, the problems' names; and one list a measure over the problems: ``correct`` (of n, from
        which pass@k follows), ``maj@k`` (exact, k = 1, 2, 4, …), ``response_length``, ``finished``, ``answered``,
        ``distinct`` (number of different responses); ``entropy`` (nats, summed over the response), ``logprob`` (log pi)
        and ``base_logprob`` (log p), nats a sequence, means over the samples, where they were measured; ``alpha_xx``
        and ``alpha_xy``, sums of squares and products of log p and log pi centred within the problem, whose ratio is
        the slope that is called effective alpha.
    """
    from sharpen.llm.evaluation.summary import scores_by_problem

    scores = scores_by_problem(records, samples)
    kept = [name for name in scores if not name.startswith("pass@")]
    table: dict[str, Any] = {"samples": samples, "ids": [record.id for record in records]}
    table["correct"] = [sum(record.correct) for record in records]
    table |= {name: scores[name].tolist() for name in kept}
    table["distinct"] = [len(set(record.responses)) for record in records]
    for name in ("entropy", "logprob", "base_logprob"):
        columns = [getattr(record, name) for record in records]
        if all(column is not None for column in columns):
            table[name] = [float(np.mean(column)) for column in columns]
    if {"logprob", "base_logprob"} <= table.keys():
        centred = [(_centred(record.base_logprob), _centred(record.logprob)) for record in records]
        table["alpha_xx"] = [float(x @ x) for x, _ in centred]
        table["alpha_xy"] = [float(x @ y) for x, y in centred]
    return table


def _centred(column: Sequence[float] | None) -> np.ndarray:
    values = np.asarray(column, dtype=float)
    return values - values.mean()
