"""Per-sample logs of lm-eval (``--log_samples``): which samples are right, and what they answered.

A file ``samples_TASK_TIME.jsonl`` has a row a document and filter. Samples of one document are the entries of a metric
that is a list, or rows of several files: runs of the task with other seeds. A single score of several responses, as a
vote has, says nothing of each, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharpen.llm.audit.marked import Marked
from sharpen.objective import InputError
from sharpen.objective.storage import files

PATTERN = "samples_*.jsonl"
USUAL = ("exact_match", "acc", "pass@1", "em")  # metrics that say of one response whether it is right
INVALID = "[invalid]"  # what lm-eval's filters put where they find no answer


def is_log(path: Path) -> bool:
    """Return whether a path is a log of lm-eval, or a folder of them."""
    return path.suffix == ".jsonl" or (path.is_dir() and any(path.glob(PATTERN)))


def read_logs(path: Path, metric: str | None = None, chosen: str | None = None) -> list[Marked]:
    """Return the problems of a log, each with the samples of all rows about it.

    Args:
        path: A file, or a folder with ``samples_*.jsonl``.
        metric: The number that is 1 where an answer is right; None: the usual one.
        chosen: Name of the filter whose answers count; None: the only one.

    Raises:
        InputError: a file is no such log, has several filters or metrics and none is chosen, lacks the chosen one, or
            scores several responses together.
    """
    names = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    rows = [(place, row) for name in names for place, row in _rows(name)]
    if not rows:
        raise InputError("log", str(path), "rows of lm-eval --log_samples; it has none")
    filters = sorted({str(row.get("filter", "none")) for _, row in rows})
    if chosen is None and len(filters) > 1:
        raise InputError("filter", None, f"one of {', '.join(filters)}, which {path} has")
    if chosen is not None and chosen not in filters:
        raise InputError("filter", chosen, f"one that {path} has: {', '.join(filters)}")
    kept: dict[str, Marked] = {}
    for place, row in rows:
        if chosen is None or str(row.get("filter", "none")) == chosen:
            scores, answers = _samples(place, row, metric)
            name = str(row.get("doc_hash", row["doc_id"]))
            before = kept.get(name, Marked(name, [], []))
            kept[name] = _joined(before, scores, answers)
    return list(kept.values())


def _rows(name: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = name.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        reason = files.why_not(error) if isinstance(error, OSError) else "no UTF-8"
        raise InputError("log", str(name), f"a file of lm-eval --log_samples ({reason})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError("log", place, "a row of lm-eval --log_samples, JSON") from error
        if not isinstance(row, dict) or not {"doc_id", "resps", "filtered_resps"} <= row.keys():
            raise InputError("log", place, "a row of lm-eval --log_samples, with doc_id, resps and filtered_resps")
        yield place, row


def _samples(place: str, row: Mapping[str, Any], metric: str | None) -> tuple[list[bool], list[str | None] | None]:
    """Return which samples of a row are right, and their answers if the row tells."""
    score = row[_metric(place, row, metric)]
    scores = score if isinstance(score, list) else [score]
    if not scores or not all(isinstance(one, int | float) for one in scores):
        raise InputError("log", place, f"a number as {metric or 'metric'}, or a list of them")
    kept = row["filtered_resps"]
    first = kept[0] if isinstance(kept, list) and len(kept) == 1 else None  # several: the choices of one question
    texts = first if isinstance(first, list) else [first]
    if not isinstance(score, list) and isinstance(first, list) and len(first) > 1 and isinstance(first[0], str):
        allowed = "a score of each response: one response a row (runs with several seeds), or a metric that is a list"
        raise InputError("log", f"{place}, one score of {len(first)} responses", allowed)
    if len(texts) != len(scores) or not all(isinstance(one, str) for one in texts):
        return [one >= 1 for one in scores], None
    return [one >= 1 for one in scores], [None if one in ("", INVALID) else str(one) for one in texts]


def _metric(place: str, row: Mapping[str, Any], metric: str | None) -> str:
    listed = row.get("metrics")
    names = [str(one) for one in listed] if isinstance(listed, list) else [one for one in USUAL if one in row]
    names = [one for one in names if one in row]
    if metric is not None:
        if metric not in row:
            raise InputError("metric", metric, f"one that {place} has: {', '.join(names)}")
        return metric
    usual = [one for one in USUAL if one in names] or names
    if len(names) != 1 and not any(one in USUAL for one in names):
        raise InputError("metric", None, f"the one that is 1 where an answer is right, of {', '.join(names) or 'none'}")
    return usual[0]


def _joined(before: Marked, right: list[bool], answers: list[str | None] | None) -> Marked:
    known = None if before.answers is None or answers is None else before.answers + _classes(right, answers)
    return Marked(before.id, before.right + right, known)


def _classes(right: list[bool], answers: list[str | None]) -> list[str | None]:
    """Return answers told apart by their marks too, as those of an evaluation are."""
    return [
        None if one is None and not good else f"{'right' if good else 'wrong'}: {one}"
        for good, one in zip(right, answers, strict=True)
    ]
