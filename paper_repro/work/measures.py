"""What a result keeps of an evaluation: one row a problem, without the responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.objective.settings import as_name
from sharpen.paper_repro.grids.grid import KEPT
from sharpen.theory.audit.counted import entropy_of

if TYPE_CHECKING:
    from sharpen.llm.evaluation.records import Record


FORECAST = (2, 4)  # exponents that are forecast from samples of p


def folder_of(asked: Mapping[str, Any]) -> str:
    """Return the name of the folder of one set of problems, for instance ``antonyms-test``."""
    return f"{as_name(asked['data'])}-{asked['split']}"


def by_problem(records: Sequence[Record], samples: int, *, calibrate: bool = False, keep: int = 0) -> dict[str, Any]:
    """Return the measures of each problem.

    Args:
        records: One a problem, each with ``samples`` responses.
        samples: n.
        calibrate: Add those of :func:`calibration`.
        keep: Add ``answer_entropy``, nats, estimated from all samples, ``level`` where the problems have one, and
            ``kept``, see :func:`singly`, of so many samples of each problem.

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
    if keep:
        table["answer_entropy"] = [entropy_of(Counter(record.classes)) for record in records]
        table["level"] = [record.level for record in records]
        table["kept"] = singly(records, keep)
    return table | (calibration(records) if calibrate else {})


def singly(records: Sequence[Record], count: int) -> dict[str, list[list[Any]]]:
    """Return the numbers of single samples, the first ``count`` of each problem.

    Returns:
        ``right`` (0 or 1), ``tokens``, and where they were measured ``logprob`` (log pi) and ``base_logprob`` (log p),
        nats a sequence, to three digits; each one list a problem.
    """
    found: dict[str, list[list[Any]]] = {
        "right": [[int(good) for good in record.correct[:count]] for record in records],
        "tokens": [record.lengths[:count] for record in records],
    }
    for name in ("logprob", "base_logprob"):
        columns = [getattr(record, name) for record in records]
        if all(column is not None for column in columns):
            found[name] = [[round(float(value), 3) for value in column[:count]] for column in columns]
    return found


def asked(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return which problems are asked, and how often, without what is kept of them."""
    return {name: value for name, value in one.items() if name not in KEPT}


def greedy(policy: Mapping[str, Any], one: Mapping[str, Any], folder: Path) -> list[int]:
    """Ask each problem once more without sampling, and return which answers are right, 0 or 1 a problem.

    Args:
        policy: Settings of ``sharpen llm eval`` that say who is asked.
        one: What is asked.
        folder: Of this evaluation; a kill loses at most one batch of it.
    """
    from sharpen.llm.evaluation.run import EvalConfig, run_evaluation

    config = EvalConfig(**{**asked(one), **policy, "temperature": 0.0, "samples": 1, "likelihoods": False})
    _, records = run_evaluation(config, folder)
    return [int(record.correct[0]) for record in records]


def calibration(records: Sequence[Record]) -> dict[str, list[float | None]]:
    """Return how the score r goes with log p on samples of p, and the forecast of p^alpha from them, by problem.

    Args:
        records: Samples of the base model with their log p.

    Returns:
        ``corr_xx``, ``corr_rr``, ``corr_xr``: sums of squares and products of log p and r, centred within the problem;
        ``auc``: chance that a right sample is likelier than a wrong one, ties by halves (None without both kinds);
        ``forecast@a``: sum w r / sum w with w = p^(a - 1), self-normalised importance sampling, and ``ess@a``, its
        effective sample size (sum w)^2 / sum w^2, for each a of ``FORECAST``.
    """
    names = ["corr_xx", "corr_rr", "corr_xr", "auc"]
    found: dict[str, list[float | None]] = {name: [] for name in names}
    found |= {f"{name}@{a}": [] for a in FORECAST for name in ("forecast", "ess")}
    from scipy.stats import rankdata

    for record in records:
        log_p, r = np.asarray(record.base_logprob, dtype=float), np.asarray(record.marks, dtype=float)
        x, y = log_p - log_p.mean(), r - r.mean()
        for name, value in zip(names, (x @ x, y @ y, x @ y), strict=False):
            found[name].append(float(value))
        good = np.asarray(record.correct)
        kinds = int(good.sum()), int((~good).sum())
        below = rankdata(log_p)[good].sum() - kinds[0] * (kinds[0] + 1) / 2  # Mann and Whitney's U, ties by halves
        found["auc"].append(float(below / (kinds[0] * kinds[1])) if min(kinds) else None)
        for a in FORECAST:
            w = np.exp((a - 1) * (log_p - log_p.max()))
            found[f"forecast@{a}"].append(float(w @ r / w.sum()))
            found[f"ess@{a}"].append(float(w.sum() ** 2 / (w @ w)))
    return found


def _centred(column: Sequence[float] | None) -> np.ndarray:
    values = np.asarray(column, dtype=float)
    return values - values.mean()
