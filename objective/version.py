"""Which version of this program runs."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "sharpen-rl"
try:
    VERSION = metadata.version(DISTRIBUTION)
except metadata.PackageNotFoundError:  # a checkout on the path that nobody installed
    VERSION = "0+unknown"


def install(extra: str = "") -> str:
    """Return the command that installs this program with an extra; no package index has it.

    Example:
        >>> install("llm")
        "pip install '.[llm]' (in a checkout of sharpen)"
    """
    wanted = f"'.[{extra}]'" if extra else "."
    return f"pip install {wanted} (in a checkout of sharpen)"
