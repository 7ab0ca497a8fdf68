"""Checks of learners' own options: they refuse by ``ValueError``, which the door of learners turns into one line."""

from __future__ import annotations


def at_least_zero(name: str, value: float) -> float:
    """Return a finite number >= 0.

    Raises:
        ValueError: it is another thing.

    Example:
        >>> at_least_zero("weight", 1)
        1.0
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{name}: got {value!r}, allowed: a finite number >= 0")
    return float(value)
