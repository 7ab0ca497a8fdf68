"""Rows of local files and of the hub, of which only the wanted columns are kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sharpen.llm.hub import prefer_cache
from sharpen.objective import InputError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")

Row = dict[str, Any]


def read_file(file: Path, columns: Collection[str]) -> list[Row]:
    """Return the rows of a .jsonl, .json, .csv or .parquet file; every other column is dropped as a row is parsed.

    Args:
        file: The file.
        columns: Names of the wanted columns; those that the file does not have are left out.

    Raises:
        InputError: the file cannot be read, or a row is not an object; the message has the line.
    """
    try:
        if file.suffix == ".jsonl":
            lines = enumerate(_lines(file), start=1)
            return [_object(line, columns, file, number) for number, line in lines if line.strip()]
        if file.suffix == ".json":
            rows = json.loads(file.read_text(encoding="utf-8-sig"), object_hook=lambda row: _keep(row, columns))
            if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
                raise InputError("data", str(file), "a JSON list of objects")
            return rows
        return _table(file, columns)
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # undecodable text, bad JSON, an empty or broken table
        raise InputError("data", str(file), f"a readable {file.suffix} file ({error})") from error


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
    return [dict(row) for row in table.select_columns([column for column in table.column_names if column in columns])]


def _lines(file: Path) -> list[str]:
    # Not splitlines(): a JSON string may hold U+2028 and its like, which are no line ends in JSON lines.
    return file.read_text(encoding="utf-8-sig").split("\n")


def _object(line: str, columns: Collection[str], file: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError("data", f"{file}:{number}", f"one JSON object a line ({error})") from error
    if not isinstance(row, dict):
        raise InputError("data", f"{file}:{number}", "one JSON object a line")
    return _keep(row, columns)


def _table(file: Path, columns: Collection[str]) -> list[Row]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return [_keep(row, columns) for row in csv.DictReader(stream, strict=True)]
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(file).names
    return pyarrow.parquet.read_table(file, columns=[name for name in names if name in columns]).to_pylist()


def _keep(row: Row, columns: Collection[str]) -> Row:
    return {column: value for column, value in row.items() if column in columns}
