"""Metrics of a run: JSON lines for programs, TensorBoard for people, a few samples for reading."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any


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
            name.write_text(secrets.token_hex(8), encoding="utf-8")
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
    """

    def __init__(self, out: Path, first_step: int, mirror: Mirror | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._metrics, self._samples = out / "metrics.jsonl", out / "samples.jsonl"
        for file in (self._metrics, self._samples):
            keep_steps_before(file, first_step)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
        self._mirror = mirror

    def write(self, record: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Append one step's record (with its number under ``step``) and some of its samples."""
        append(self._metrics, [record])
        append(self._samples, samples)
        if self._mirror is not None:
            self._mirror.write(record)
        for name, number in record.items():
            for label, scalar in number.items() if isinstance(number, dict) else [("", number)]:
                if isinstance(scalar, int | float) and name != "step":
                    self._board.add_scalar(f"{name}/{label}".rstrip("/"), scalar, record["step"])

    def close(self) -> None:
        """Flush and close the TensorBoard log."""
        self._board.close()
        if self._mirror is not None:
            self._mirror.close()


def append(file: Path, records: list[dict[str, Any]]) -> None:
    """Append records as JSON lines; NaN and infinities, which JSON lacks, are refused (ValueError)."""
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)


def read(file: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file; a torn last line, left by a kill, is dropped."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def keep_steps_before(file: Path, step: int) -> None:
    """Rewrite a JSON-lines file without the records of ``step`` and later ones."""
    if file.exists():
        kept = [record for record in read(file) if record["step"] < step]
        part = file.with_suffix(".part")
        part.write_text("", encoding="utf-8")
        append(part, kept)
        part.replace(file)
