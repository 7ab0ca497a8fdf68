"""A reward without labels."""

from __future__ import annotations

from collections.abc import Sequence


def even(responses: Sequence[str], *, digits: str = "02468") -> list[float]:
    """Return 1 for a response whose last digit is one of ``digits``, else 0; no answer is needed for that."""
    last = [next((char for char in reversed(text) if char.isdigit()), "") for text in responses]
    return [float(char in digits and char != "") for char in last]
