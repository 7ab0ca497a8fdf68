"""Files of one JSON object per line, added to as work is done: what a kill leaves is read, damage is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from sharpen.objective import InputError
from sharpen.objective.storage import files

Row = TypeVar("Row")  # a dataclass: a name, and lists with one entry per response


def line(row: Any) -> str:
    """Return a row's line; NaN and infinities, which JSON lacks, are refused (ValueError)."""
    return json.dumps(asdict(row), allow_nan=False) + "\n"


def append(file: Path, rows: Sequence[Any]) -> None:
    """Append rows and make them durable: a later kill, or a crash of the machine, keeps them.

    Raises:
        InputError: they could not be written; the file is as it was.
    """
    files.append(file, map(line, rows))


def read(file: Path, kind: type[Row]) -> list[Row]:
    """Return the rows of a file; a torn last line, left by a kill, is left out.

    Raises:
        InputError: the file cannot be read, or another line is no such row; the message has the line.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError("records", str(file), f"a {file.name} of this program ({files.why_not(error)})") from error
    return [_parsed(text, kind, f"{file}:{number}") for number, text in enumerate(lines[:-1], start=1)]


def go_on(file: Path, kind: type[Row], batch: int, total: int) -> list[Row]:
    """Return the rows of whole batches that an earlier call left, after removing what is there besides.

    A batch of another width rounds differently: only whole ones give the numbers of a run that was never stopped.

    Args:
        file: A missing one has none.
        kind: Of the rows.
        batch: Rows that were computed together.
        total: Rows of a complete file.

    Raises:
        InputError: see :func:`read`; the file is as it was.
    """
    if not file.exists():
        return []
    rows = read(file, kind)
    whole = len(rows) if len(rows) >= total else len(rows) - len(rows) % batch
    if not file.read_bytes().endswith(b"\n") or whole < len(rows):
        files.write(file, "".join(map(line, rows[:whole])))
    return rows[:whole]


def _parsed(text: bytes, kind: type[Row], place: str) -> Row:
    try:
        given = json.loads(text, parse_constant=_refuse_constant)
        wanted = _types(kind)
        if not (isinstance(given, dict) and _needed(kind) <= given.keys() <= wanted.keys()):
            raise ValueError(f"not the fields {', '.join(wanted)}")
        for name, entry in given.items():
            if not _is(entry, wanted[name]):
                raise ValueError(f"{name} is of another type")
        lengths = {len(entry) for entry in given.values() if isinstance(entry, list)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError("columns of different lengths, or without entries")
    except (ValueError, RecursionError) as error:
        raise InputError("records", place, f"one {kind.__name__} a line, as this program wrote it ({error})") from error
    return kind(**given)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


@lru_cache
def _types(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


@lru_cache
def _needed(kind: type[Any]) -> frozenset[str]:
    """Return the fields without a default: a file of an earlier version lacks those that came later."""
    return frozenset(one.name for one in fields(kind) if one.default is MISSING)


def _is(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON is of an annotated type; pydantic, which could tell, refuses lone surrogates."""
    if get_origin(kind) is UnionType:
        return any(_is(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(entry, get_args(kind)[0]) for entry in value)
    return type(value) in (int, float) if kind is float else type(value) is kind
