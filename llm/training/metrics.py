"""Metrics of a run: JSON lines always, a few samples for reading, and whatever trackers it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharpen.llm.trackers import Tracking
from sharpen.objective import InputError
from sharpen.objective.storage import files


class MetricsWriter:
    """Appends one record a step to ``metrics.jsonl`` and ``samples.jsonl``, and tells the trackers.

    Args:
        out: Run folder.
        first_step: Records of this step and later ones, left by a run that was killed after its last checkpoint, are
            removed, so that a resumed run leaves each step exactly once.
        tracking: Told of each step after it is written; started by now. None: nobody is.

    Attributes:
        missing: How many steps before ``first_step`` have no record: a file that was damaged or deleted.

    Raises:
        InputError: a file cannot be written, or holds something else than records; then it is as it was.
    """

    def __init__(self, out: Path, first_step: int, tracking: Tracking | None = None) -> None:
        self._metrics, self._samples = out / "metrics.jsonl", out / "samples.jsonl"
        for file in (self._metrics, self._samples):
            keep_steps_before(file, first_step)
        kept = {record["step"] for record in read(self._metrics)} if self._metrics.exists() else set()
        self.missing = first_step - len(kept)
        self._tracking = tracking

    def write(self, record: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Append one step's record (with its number under ``step``) and some of its samples."""
        append(self._metrics, [record])
        append(self._samples, samples)
        if self._tracking is not None:
            self._tracking.log(record, samples)

    def earlier(self) -> list[dict[str, Any]]:
        """Return the records of the steps so far."""
        return read(self._metrics) if self._metrics.exists() else []

    def close(self) -> None:
        """Finish the trackers."""
        if self._tracking is not None:
            self._tracking.finish()


def append(file: Path, records: list[dict[str, Any]]) -> None:
    """Append records as JSON lines, durably; NaN and infinities, which JSON lacks, are refused (ValueError)."""
    files.append(file, [json.dumps(record, allow_nan=False) + "\n" for record in records])


def read(file: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file; a torn last line, left by a kill, is left out.

    Raises:
        InputError: the file cannot be read, or another line is no record; the message has the line.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError("metrics", str(file), f"a file that can be read ({error.strerror})") from error
    return [_record(line, f"{file}:{number}") for number, line in enumerate(lines[:-1], start=1)]


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not (isinstance(record, dict) and isinstance(record["step"], int)):
            raise ValueError("no object with a step")
    except (ValueError, KeyError, RecursionError) as error:
        raise InputError("metrics", place, f"one record with its step a line ({error})") from error
    return record


def keep_steps_before(file: Path, step: int) -> None:
    """Rewrite a JSON-lines file without the records of ``step`` and later ones.

    Raises:
        InputError: a line is no record, see :func:`read`; the file is as it was.
    """
    if file.exists():
        kept = [record for record in read(file) if record["step"] < step]
        files.write(file, "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept))
