"""Metrics of a run: JSON lines for programs, TensorBoard for people, a few samples for reading."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from sharpen.objective import InputError
from sharpen.objective.storage import files


class Mirror:
    """Sends the metrics of a run to Weights & Biases too; a resumed run continues its page there.

    Args:
        project: There.
        out: Run folder; the page's identity is kept in it.
        settings: The run's.
    """

    def __init__(self, project: str, out: Path, settings: dict[str, Any]) -> None:
        import wandb  # type: ignore[import-not-found]  # optional

        name = out / "wandb-id"
        if not name.exists():
            files.write(name, secrets.token_hex(8))
        self._run: Any = wandb.init(
            project=project, dir=str(out), id=name.read_text(encoding="utf-8"), resume="allow", config=settings
        )

    def write(self, record: dict[str, Any]) -> None:
        """Send one step's record; a step that the page has already is not sent again there."""
        self._run.log({f"{name}": number for name, number in record.items() if name != "step"}, step=record["step"])

    def close(self) -> None:
        """Finish the page."""
        self._run.finish()


class MetricsWriter:
    """Appends one record a step to ``metrics.jsonl``, ``samples.jsonl`` and a TensorBoard log.

    Args:
        out: Run folder.
        first_step: Records of this step and later ones, left by a run that was killed after its last checkpoint, are
            removed, so that a resumed run leaves each step exactly once.
        mirror: Gets the records too.

    Attributes:
        missing: How many steps before ``first_step`` have no record: a file that was damaged or deleted.

    Raises:
        InputError: a file cannot be written, or holds something else than records; then it is as it was.
    """

    def __init__(self, out: Path, first_step: int, mirror: Mirror | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._metrics, self._samples = out / "metrics.jsonl", out / "samples.jsonl"
        for file in (self._metrics, self._samples):
            keep_steps_before(file, first_step)
        kept = {record["step"] for record in read(self._metrics)} if self._metrics.exists() else set()
        self.missing = first_step - len(kept)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
        self._mirror = mirror

    def write(self, record: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Append one step's record (with its number under ``step``) and some of its samples."""
        append(self._metrics, [record])
        append(self._samples, samples)
        if self._mirror is not None:
            self._mirror.write(record)
        with files.naming(self._metrics.parent / "tensorboard"):
            self._show(record)

    def _show(self, record: dict[str, Any]) -> None:
        for name, number in record.items():
            for label, scalar in number.items() if isinstance(number, dict) else [("", number)]:
                if isinstance(scalar, int | float) and name != "step":
                    self._board.add_scalar(f"{name}/{label}".rstrip("/"), scalar, record["step"])

    def close(self) -> None:
        """Flush and close the TensorBoard log."""
        with files.naming(self._metrics.parent / "tensorboard"):
            self._board.close()
        if self._mirror is not None:
            self._mirror.close()


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
