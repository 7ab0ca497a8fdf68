"""What an evaluation keeps of each problem: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sharpen.objective import InputError


@dataclass(frozen=True)
class Record:
    """One problem's n samples.

    Args:
        id: The problem's.
        subject: Its subject, where the data set names one.
        level: Its difficulty, where the data set names one.
        responses: Texts.
        votes: Final answers as they are counted in a vote; None without one.
        correct: Whether the verifier takes each for the gold answer.
        lengths: Response tokens, end-of-sequence included.
        finished: False where a response was cut at the length limit.
        logprob: log pi(x) at temperature 1, nats a sequence; None if not measured, as below.
        entropy: Sum over the response's tokens of the next-token entropy of pi, nats.
        base_logprob: log p(x) under the base model, nats a sequence.
    """

    id: str
    subject: str | None
    level: str | None
    responses: list[str]
    votes: list[str | None]
    correct: list[bool]
    lengths: list[int]
    finished: list[bool]
    logprob: list[float] | None = None
    entropy: list[float] | None = None
    base_logprob: list[float] | None = None

    @property
    def classes(self) -> list[str | None]:
        """What each sample votes for: all right answers are one class, however they are written."""
        return [
            "right" if good else None if vote is None else f"wrong: {vote}"
            for good, vote in zip(self.correct, self.votes, strict=True)
        ]


_NAMES = {field.name for field in fields(Record)}


def append(file: Path, records: Sequence[Record]) -> None:
    """Append records and make them durable: a later kill, or a crash of the machine, keeps them."""
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(record), allow_nan=False) + "\n" for record in records)
        stream.flush()
        os.fsync(stream.fileno())


def read(file: Path) -> list[Record]:
    """Return the records of a file; a torn last line, left by a kill, is left out.

    Raises:
        InputError: the file cannot be read, or another line is no record; the message has the line.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError("records", str(file), f"the {file.name} of an evaluation ({error.strerror})") from error
    return [_record(line, f"{file}:{number}") for number, line in enumerate(lines[:-1], start=1)]


def cut_torn_line(file: Path) -> None:
    """Remove what a kill left after the last complete line."""
    if file.exists():
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(file, whole)


def _record(line: bytes, place: str) -> Record:
    try:
        given = json.loads(line)
        if not (isinstance(given, dict) and given.keys() == _NAMES):
            raise ValueError("other fields")
        record = Record(**given)
        columns = (record.votes, record.correct, record.lengths, record.finished)
        if not record.responses or any(len(column) != len(record.responses) for column in columns):
            raise ValueError("columns of different lengths")
    except (ValueError, TypeError) as error:
        raise InputError("records", place, f"one record of an evaluation a line ({error})") from error
    return record
