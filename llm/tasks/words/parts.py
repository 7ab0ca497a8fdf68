"""Which problems are for training, for validation and for the test: decided by a hash of the problem alone."""

from __future__ import annotations

from functools import lru_cache

from sharpen.llm.tasks.words.kinds import KINDS, Fact, digest

SHARES = {"train": 60, "validation": 15, "test": 25}  # percent


def part_of(name: str, key: str) -> str:
    """Return the part that a problem of a task belongs to; it stays there when others are added.

    Args:
        name: The task's.
        key: Of :meth:`sharpen.llm.tasks.words.kinds.Kind.key`.
    """
    place = digest(name, "part", key) % 100
    for part, share in SHARES.items():
        if place < share:
            return part
        place -= share
    raise AssertionError("the shares are of a hundred")


@lru_cache(maxsize=64)
def facts_of(name: str, part: str) -> tuple[Fact, ...]:
    """Return what the problems of a part of a task are made of, in an order that mixes them; no answer is computed.

    Args:
        name: One of ``KINDS``.
        part: One of ``SHARES``.
    """
    kind = KINDS[name]
    shown = {kind.key(fact) for fact in kind.examples}
    keys = ((fact, kind.key(fact)) for fact in kind.facts())
    mine = [fact for fact, key in keys if key not in shown and part_of(name, key) == part]
    return tuple(sorted(mine, key=lambda fact: digest(name, "order", *fact)))
