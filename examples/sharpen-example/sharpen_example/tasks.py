"""A task in the embedded model's language: sums of three two-digit numbers."""

from __future__ import annotations

FIRST = {"train": range(31, 36), "validation": range(36, 38), "test": range(38, 40)}


def thirties(split: str, limit: int | None = None) -> list[tuple[str, str]]:
    """Return problems and answers whose first number is in the thirties; the parts share no problem."""
    pairs = [(f"{a}+{b}+11=?", str(a + b + 11)) for a in FIRST[split] for b in range(40, 60)]
    return pairs[:limit]
