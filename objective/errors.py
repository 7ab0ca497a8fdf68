"""The one exception that means "the input is wrong", as opposed to "the program is", and its kinds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any


class InputError(ValueError):
    """Input that cannot be used; the command line prints it as one line and exits with status 2.

    Args:
        field: Name of the field, option or file at fault.
        value: What was given.
        allowed: What would have been accepted.

    Example:
        >>> str(InputError("alpha", -1, "a finite number >= 0"))
        'alpha: got -1, allowed: a finite number >= 0'
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: got {shorten(value)}, allowed: {allowed}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, object, str]]:  # else it does not survive a pickle
        return type(self), (self.field, self.value, self.allowed)


def shorten(value: object, limit: int = 120) -> str:
    r"""Return ``value`` as one line of at most ``limit`` characters, the middle of a longer one left out.

    The end stays because that is where a long path says which file, and which line of it, is meant.

    Example:
        >>> shorten("a\nb")
        "'a\\nb'"
        >>> shorten("x" * 50 + ":7", limit=20)
        "'xxxxxxx...xxxxxx:7'"
    """
    text = repr(value)
    if len(text) <= limit:
        return text
    head = (limit - 3) // 2
    return text[:head] + "..." + text[head + 3 - limit :]


class MissingError(InputError):
    """Something that a command needs is not there, and what gets it.

    Args:
        field: Name of the field or option that needs it.
        value: What was given.
        why: What is missing, and why it is not to be had.
        get: Commands or options that get it, in this order.

    Example:
        >>> str(MissingError("engine", "vllm", "vLLM is not installed", ["pip install '.[vllm]'"]))
        "engine: got 'vllm', missing: vLLM is not installed; pip install '.[vllm]'"
    """

    def __init__(self, field: str, value: object, why: str, get: Sequence[str]) -> None:
        self.field, self.value, self.why, self.get = field, value, why, tuple(get)
        self.allowed = "; ".join((why, *get))
        ValueError.__init__(self, f"{field}: got {shorten(value)}, missing: {self.allowed}")


class SeveralInputsError(InputError):
    """Several things are missing or wrong, found together; the command line prints them one below the other.

    Args:
        errors: At least two.

    Example:
        >>> str(SeveralInputsError([InputError("alpha", -1, ">= 0"), InputError("steps", 0, ">= 1")]))
        '2 things are missing or wrong: alpha: got -1, allowed: >= 0; steps: got 0, allowed: >= 1'
    """

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(errors)
        self.field = ", ".join(error.field for error in errors)
        self.value, self.allowed = tuple(error.value for error in errors), "; ".join(error.allowed for error in errors)
        self.title = f"{len(errors)} things are missing or wrong"
        ValueError.__init__(self, f"{self.title}: {'; '.join(map(str, errors))}")

    def lines(self, width: int = 80) -> list[str]:
        """Return the title and each error, in lines of at most ``width`` characters where words allow it.

        A command that is too long continues on the next line as a shell reads it.
        """
        found = [self.title]
        for number, error in enumerate(self.errors, start=1):
            missing = isinstance(error, MissingError)
            text = f"{error.field}: got {shorten(error.value)}, missing: {error.why}" if missing else str(error)
            margin = len(f"  {number}. ")
            found += textwrap.wrap(
                text, width, initial_indent=f"  {number}. ", subsequent_indent=" " * margin, **_WHOLE
            )
            for command in error.get if missing else ():
                parts = textwrap.wrap(command, width - margin - 6, **_WHOLE)
                found += [f"{' ' * (margin + 2)}{part}{end}" for part, end in _continued(parts)]
        return found


_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _continued(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each part of a command with what ends its line; all but the first are indented further."""
    for place, part in enumerate(parts):
        yield ("  " * (place > 0)) + part, " \\" if place + 1 < len(parts) else ""


def one_or_several(errors: Sequence[InputError]) -> InputError:
    """Return the error itself if it is the only one, else all of them as one."""
    return errors[0] if len(errors) == 1 else SeveralInputsError(errors)
