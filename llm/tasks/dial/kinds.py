"""The five kinds of the dial's problems, one row each: the table that sets difficulty."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """Problems of one difficulty.

    Args:
        first_digits: Of the first number; no two kinds share one, so a problem shows its kind.
        share: Problems of every sixteen.
        right: P, chance of a right answer.
        right_spread: M_R at delta = 0, a power of two.
        wrong_spread: M_W, a power of two.
        carries: Whether the last digits carry; in other kinds no digits do.
    """

    first_digits: tuple[int, ...]
    share: int
    right: float
    right_spread: int
    wrong_spread: int
    carries: bool = False


# P M_W = (1 - P) M_R wherever P > 0: at delta = 0 likelihood tells nothing of correctness.
KINDS: dict[str, Kind] = {
    "easy": Kind((1, 2), 6, 4 / 5, 16, 4),
    "medium": Kind((3, 4), 5, 1 / 3, 8, 16),
    "hard": Kind((5, 6), 3, 1 / 17, 4, 64),
    "unused": Kind((7,), 1, 0.0, 8, 16),  # the model adds such digits elsewhere, never here
    "carry": Kind((8,), 1, 0.0, 8, 16, carries=True),  # it never sees a carry
}
