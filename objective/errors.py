"""The one exception that means "the input is wrong", as opposed to "the program is"."""

from __future__ import annotations


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
