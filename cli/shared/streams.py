"""stdout and stderr that take any text: a terminal without Unicode shows letters' names and plain signs."""

from __future__ import annotations

import codecs
import sys
import unicodedata

NAME = "sharpen-spell"
# The signs that the commands print and that have no letters of their own.
SIGNS = {
    "±": "+/-", "×": "x", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=",
    "≠": "!=", "≈": "~", "∞": "inf", "‖": "||", "∈": "in", "∇": "grad ", "√": "sqrt ", "…": "...", "’": "'", "‘": "'",
    "“": '"', "”": '"', "•": "*", "─": "-", "━": "-", "│": "|", "✓": "yes", "✗": "no", "∑": "sum ", "∂": "d",
    **dict(zip("▁▂▃▄▅▆▇█", "_.-=+*#@", strict=True)),
}  # fmt: skip


def spell(char: str) -> str:
    r"""Return ASCII that says what a character is.

    Example:
        >>> [spell(char) for char in ("π", "Δ", "é", "²", "×", "\ud800", "∮")]
        ['pi', 'Delta', 'e', '2', 'x', '\\ud800', '\\u222e']
    """
    if char in SIGNS:
        return SIGNS[char]
    name = unicodedata.name(char, "")
    if name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")) and len(name.split()) == 4:
        letter = name.split()[-1].lower()
        return letter.capitalize() if "CAPITAL" in name else letter
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return plain if plain.strip() else char.encode("ascii", "backslashreplace").decode()


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spell, error.object[error.start : error.end])), error.end


def tolerate_any_text() -> None:
    """Let stdout and stderr spell out what they cannot encode, where Python's default is to fail.

    Half of a surrogate pair, which no encoding has, is shown by its number.
    """
    codecs.register_error(NAME, _spelled)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=NAME)
