"""From exceptions to one line on stderr and an exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import typer

from sharpen.cli.shared.terminal import printable

BAD_INPUT = 2
INTERRUPTED = 130
LONGEST = 2000  # characters of a line
MOST_FIELDS = 5  # that one line lists
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# What a machine says of a user's paths. Not ENOENT and EEXIST: a file of our own that is missing is a defect.
REFUSALS = (
    *FULL,
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EMFILE, errno.ENFILE, errno.ENXIO, errno.ESTALE),
)


def fail(message: str, details: Sequence[str] = ()) -> NoReturn:
    """Print ``error: message`` as one line on stderr, and ``details`` below it, and exit with status 2."""
    print("error: " + one_line(message), *(printable(line, keep="") for line in details), sep="\n", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


@contextmanager
def lost_without(out: object) -> Iterator[None]:
    """Note on a Ctrl-C inside that nothing was kept, where no folder was named that would have kept it.

    Example:
        >>> try:
        ...     with lost_without(None):
        ...         raise KeyboardInterrupt
        ... except KeyboardInterrupt as error:
        ...     print(error.__notes__[0])
        nothing was kept; with --out FOLDER the same command goes on from what is done
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if out is None:
            error.add_note("nothing was kept; with --out FOLDER the same command goes on from what is done")
        raise


def one_line(message: str) -> str:
    r"""Return a message as one line of bounded length in which nothing commands a terminal.

    Example:
        >>> one_line("a\nb\x1b[31m")
        'a b\\x1b[31m'
    """
    line = printable(" ".join(message.split()))
    half = LONGEST // 2
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def details(error: Exception) -> list[str]:
    """Return the lines that follow the first: what is wrong, where several things were found together."""
    from sharpen.objective import SeveralInputsError

    return error.lines()[1:] if isinstance(error, SeveralInputsError) else []


def describe(error: Exception) -> str | None:
    """Return the one line that tells a user what was wrong with the input, or None if the program is at fault."""
    from pydantic import ValidationError

    from sharpen.objective import InputError, SeveralInputsError

    if isinstance(error, SeveralInputsError):
        return error.title
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ValidationError):
        each = error.errors(include_url=False, include_context=False)
        found = [_describe_field(detail) for detail in each if not _follows(detail, each)]
        more = [f"and {len(found) - MOST_FIELDS} more"] if len(found) > MOST_FIELDS else []
        return "; ".join([*found[:MOST_FIELDS], *more])
    if isinstance(error, OSError):
        return _describe_file(error)
    if isinstance(error, MemoryError):
        return f"memory: got a request for more than there is ({str(error) or 'no size given'}), allowed: less"
    return None


def _describe_file(error: OSError) -> str | None:
    """Return the line for a file or folder that the machine refuses; None where the program may be at fault."""
    if error.errno not in REFUSALS:
        return None
    if error.filename is None:
        return f"output: got {error.strerror}, allowed: a place that can be written" if error.errno in FULL else None
    if not isinstance(error.filename, str | bytes):
        return None
    from sharpen.objective.errors import shorten

    path = shorten(os.fsdecode(error.filename))
    return f"file: got {path}, allowed: one that can be read and written here ({error.strerror})"


def describe_usage(error: typer.exceptions.TyperException) -> str:
    """Return the one line for arguments that typer refused; empty where it has printed help instead."""
    from pydantic import ValidationError

    field = getattr(getattr(error, "param", None), "name", None)
    if field and isinstance(error.__cause__, ValidationError):  # typer's own message leaves out what it was given
        return "; ".join(_describe_field({**detail, "loc": (field,)}) for detail in error.__cause__.errors())
    return error.format_message()


def _follows(detail: object, each: Sequence[object]) -> bool:
    """Return whether a list is only too short because its items, each of which is told, cannot be used."""
    assert isinstance(detail, dict)
    place = detail["loc"]
    return detail["type"] == "too_short" and any(
        isinstance(other, dict) and len(other["loc"]) > len(place) and other["loc"][: len(place)] == place
        for other in each
    )


def _describe_field(detail: object) -> str:
    assert isinstance(detail, dict)
    message = str(detail["msg"]).removeprefix("Value error, ")
    field = ".".join(str(part) for part in detail["loc"])
    if not field or ": got " in message:  # a check of several fields together names them in its message
        return f"{field}.{message}" if field else message
    from sharpen.objective.errors import shorten

    return f"{field}: got {shorten(detail['input'])}, {message[0].lower()}{message[1:]}"
