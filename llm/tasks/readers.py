"""Rows of local files and of the hub, of which only the wanted columns are kept."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sharpen.llm.models.hub import prefer_cache
from sharpen.objective import InputError
from sharpen.objective.storage.parsing import ROWS, TABLE, check_text, parse_json, reason
from sharpen.objective.storage.reading import check_size, read_lines, read_text

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")

Row = dict[str, Any]


def read_file(file: Path, columns: Collection[str]) -> list[Row]:
    """Return the rows of a .jsonl, .json, .csv or .parquet file; every other column is dropped as a row is parsed.

    Args:
        file: The file.
        columns: Names of the wanted columns; those that the file does not have are left out.

    Raises:
        InputError: the file cannot be read or is beyond the limits of `sharpen.objective.storage.parsing`, a row is not
        an
            object, or a wanted text holds half a surrogate pair; the message has the line or row.
    """
    if file.suffix == ".jsonl":
        return [_object(line, columns, file, number) for number, line in read_lines(file, "data")]
    if file.suffix == ".json":
        text = read_text(file, "data", TABLE)
        rows = parse_json(text, "data", str(file), TABLE, finite=False, keep=lambda row: _keep(row, columns))
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise InputError("data", str(file), "a JSON list of objects")
        return rows
    check_size(file, "data", ROWS)
    try:
        return [_whole(row, f"{file}: row {number}") for number, row in enumerate(_table(file, columns), start=1)]
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # undecodable text, an empty or broken table
        raise InputError("data", str(file), f"a readable {file.suffix} file ({reason(error)})") from error


def read_hub(name: str, configuration: str | None, splits: tuple[str, ...], columns: Collection[str]) -> list[Row]:
    """Return the rows of a data set of the hub, from the local cache where the hub is out of reach.

    Args:
        name: Hub id, ``org/name``.
        configuration: Its configuration, if it has several.
        splits: Names that the wanted split may have, the first one there is taken.
        columns: Names of the wanted columns.

    Raises:
        InputError: the data set cannot be had, or has no such split.
    """
    prefer_cache()
    import datasets

    try:
        found = datasets.load_dataset(name, configuration)
    except Exception as error:  # the library raises its own, HTTP and OS errors for one thing: not to be had
        reason = str(error).partition("\n")[0]
        raise InputError(
            "data",
            name,
            f"a data set that the hub gives ({reason}); without network pass a local file or folder, --data",
        ) from error
    split = next((split for split in splits if split in found), None)
    if split is None:
        raise InputError("split", splits[0], f"{', '.join(map(str, found))}, the splits of {name}")
    table = found[split]
    wanted = table.select_columns([column for column in table.column_names if column in columns])
    return [_whole(dict(row), f"{name}: row {number}") for number, row in enumerate(wanted, start=1)]


def _object(line: str, columns: Collection[str], file: Path, number: int) -> Row:
    place = f"{file}:{number}"
    row = parse_json(line, "data", place, ROWS, finite=False, keep=lambda row: _keep(row, columns))
    if not isinstance(row, dict):
        raise InputError("data", place, "one JSON object a line")
    return row


def _table(file: Path, columns: Collection[str]) -> Iterator[Row]:
    if file.suffix == ".csv":
        lines = (line for _, line in read_lines(file, "data", blank=True))
        yield from (_keep(row, columns) for row in csv.DictReader(lines, strict=True))
        return
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(file).names
    yield from pyarrow.parquet.read_table(file, columns=[name for name in names if name in columns]).to_pylist()


def _whole(row: Row, place: str) -> Row:
    """Return a row whose texts can be tokenised and written."""
    for value in row.values():
        if isinstance(value, str):
            check_text(value, "data", place)
    return row


def _keep(row: Row, columns: Collection[str]) -> Row:
    return {column: value for column, value in row.items() if column in columns}
