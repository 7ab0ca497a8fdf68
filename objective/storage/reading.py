"""The one reader of files that a user gives: YAML, JSON, JSON lines and arrays, each within limits.

Whatever is in a file, the answer is its content or one :class:`InputError` that says where and what is allowed, soon
and in bounded memory.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sharpen.objective.errors import InputError
from sharpen.objective.storage.parsing import MIB, NUMBERS, ROWS, SETTINGS, Limits, parse_json, parse_yaml, reason


def read_bytes(path: str | Path, name: str, limits: Limits = SETTINGS) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        name: What the message calls it: the flag or the field.
        limits: Only ``bytes`` counts.

    Raises:
        InputError: it cannot be read, is no regular file, or is too large, which is seen before it is read.
    """
    with _opened(path, name, limits) as stream:
        try:
            content = stream.read(limits.bytes + 1)
        except OSError as error:
            raise InputError(name, str(path), f"a readable file ({reason(error)})") from error
    if len(content) > limits.bytes:  # it grew, or its size was not known before
        raise InputError(name, str(path), f"a file of at most {_size(limits.bytes)}")
    return content


def read_text(path: str | Path, name: str, limits: Limits = SETTINGS) -> str:
    """Return the text of a regular UTF-8 file, with or without a byte order mark.

    Raises:
        InputError: as :func:`read_bytes`, or it is not UTF-8, or holds a NUL; the message has the line.
    """
    return _decoded(read_bytes(path, name, limits), name, str(path), first_line=1)


def read_lines(path: str | Path, name: str, limits: Limits = ROWS, *, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of a file's lines; none longer than the limit is loaded.

    A line ends with a newline only: a JSON string may hold U+2028 and its like.

    Args:
        path: The file.
        name: What the message calls it.
        limits: ``bytes`` and ``line`` count.
        blank: Yield blank lines too.

    Raises:
        InputError: as :func:`read_text`, or a line is too long.
    """
    with _opened(path, name, limits) as stream:
        number = 0
        while True:
            try:
                line = stream.readline(limits.line + 1)
            except OSError as error:
                raise InputError(name, str(path), f"a readable file ({reason(error)})") from error
            if not line:
                return
            number += 1
            if len(line) > limits.line:
                raise InputError(name, f"{path}:{number}", f"lines of at most {_size(limits.line)}")
            text = _decoded(line, name, str(path), first_line=number)
            if blank or text.strip():
                yield number, text


def read_yaml(path: str | Path, name: str, limits: Limits = SETTINGS) -> Any:
    """Return what a YAML file holds, or a JSON file if the name ends in ``.json``; see :func:`parse_yaml`."""
    text = read_text(path, name, limits)
    parse = parse_json if Path(path).suffix.lower() == ".json" else parse_yaml
    return parse(text, name, str(path), limits)


def read_json(path: str | Path, name: str, limits: Limits = SETTINGS, *, finite: bool = True) -> Any:
    """Return what a JSON file holds; see :func:`parse_json`."""
    return parse_json(read_text(path, name, limits), name, str(path), limits, finite=finite)


def read_mapping(path: str | Path, name: str, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file of settings, its names as text.

    Args:
        path: The file.
        name: What the message calls it.
        what: What it is a mapping of.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    fields = read_yaml(path, name)
    if not isinstance(fields, dict):
        raise InputError(name, str(path), f"a file with a mapping of {what}")
    return {str(key): given for key, given in fields.items()}


def read_npy(path: str | Path, name: str, limits: Limits = NUMBERS) -> Any:
    """Return the one array of real numbers in a .npy file, as a memory map; a pickle is refused, it would run code.

    Raises:
        InputError: the file cannot be read, is too large, or holds something else.
    """
    import numpy as np

    check_size(path, name, limits)
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")  # the map checks the declared size against the file's
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, OverflowError, zipfile.BadZipFile) as error:
        raise InputError(name, str(path), f"a readable .npy file of numbers ({reason(error)})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise InputError(name, str(path), "a .npy file with one array of real numbers")
    return array


def check_archive(path: str | Path, name: str, limits: Limits = NUMBERS) -> None:
    """Refuse a .npz file that would not fit once it is unpacked: zeros shrink a thousandfold.

    Raises:
        InputError: the file is no archive, or is too large.
    """
    with _opened(path, name, limits) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
        except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
            raise InputError(name, str(path), f"a readable .npz file ({reason(error)})") from error
    if unpacked > limits.bytes:
        raise InputError(name, str(path), f"at most {_size(limits.bytes)} once unpacked, not {_size(unpacked)}")


def check_size(path: str | Path, name: str, limits: Limits) -> None:
    """Refuse a file that is too large, no regular one, or cannot be opened, before a library reads it.

    Raises:
        InputError: it is so.
    """
    _opened(path, name, limits).close()


def _opened(path: str | Path, name: str, limits: Limits) -> BinaryIO:
    """Return the open file, after its kind and size have been looked at: opening a pipe could wait for ever."""
    try:
        state = Path(path).stat()
        if stat.S_ISREG(state.st_mode) and state.st_size <= limits.bytes:
            return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(name, str(path), f"a readable file ({reason(error)})") from error
    if stat.S_ISDIR(state.st_mode):
        raise InputError(name, str(path), "a file, not a folder")
    if not stat.S_ISREG(state.st_mode):
        raise InputError(name, str(path), "a regular file")
    raise InputError(name, str(path), f"a file of at most {_size(limits.bytes)}, not {_size(state.st_size)}")


def _decoded(content: bytes, name: str, path: str, first_line: int) -> str:
    content = content.removeprefix(b"\xef\xbb\xbf") if first_line == 1 else content
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise InputError(name, f"{path}:{line}", f"UTF-8 text (found the byte 0x{content[error.start]:02x})") from error
    if "\0" in text:
        raise InputError(name, f"{path}:{first_line + text[: text.index(chr(0))].count(chr(10))}", "text without NUL")
    return text


def _size(count: int) -> str:
    return f"{count / MIB:.6g} MiB" if count >= MIB else f"{count} bytes"
