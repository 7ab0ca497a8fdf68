"""Counts that may have thousands of digits, for people and for JSON."""

from __future__ import annotations

MOST_DIGITS = 1000  # a longer count is written by a power of two
LARGEST_PLAIN = 10**9  # a larger count is so written for people


def count_text(count: int) -> str:
    """Return a count for people: with commas, or as a power of two less something.

    Example:
        >>> count_text(1023), count_text(2**100 - 102)
        ('1,023', '2^100 - 102')
    """
    if count < LARGEST_PLAIN:
        return f"{count:,}"
    return f"2^{count.bit_length()} - {2 ** count.bit_length() - count:,}"


def count_json(count: int) -> int | str:
    """Return a count as a JSON number, or as text if it has more than 1000 digits."""
    return count if count.bit_length() * 0.30103 < MOST_DIGITS else count_text(count)  # log10(2)
