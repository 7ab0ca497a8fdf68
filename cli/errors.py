"""From exceptions to one line on stderr and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

BAD_INPUT = 2
INTERRUPTED = 130


def fail(message: str, details: Sequence[str] = ()) -> NoReturn:
    """Print ``error: message`` as one line on stderr, and ``details`` below it, and exit with status 2."""
    print("error: " + " ".join(message.split()), *details, sep="\n", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


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
        return "; ".join(_describe_field(detail) for detail in error.errors(include_url=False, include_context=False))
    return None


def describe_usage(error: typer.exceptions.TyperException) -> str:
    """Return the one line for arguments that typer refused; empty where it has printed help instead."""
    from pydantic import ValidationError

    field = getattr(getattr(error, "param", None), "name", None)
    if field and isinstance(error.__cause__, ValidationError):  # typer's own message leaves out what it was given
        return "; ".join(_describe_field({**detail, "loc": (field,)}) for detail in error.__cause__.errors())
    return error.format_message()


def _describe_field(detail: object) -> str:
    assert isinstance(detail, dict)
    message = str(detail["msg"]).removeprefix("Value error, ")
    field = ".".join(str(part) for part in detail["loc"])
    if not field or ": got " in message:  # a check of several fields together names them in its message
        return f"{field}.{message}" if field else message
    return f"{field}: got {detail['input']!r}, {message[0].lower()}{message[1:]}"
