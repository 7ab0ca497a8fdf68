"""What the problems of each part of a task are made of."""

from __future__ import annotations

from functools import lru_cache

from sharpen.llm.common.parts import digest, part_of
from sharpen.llm.tasks.words.kinds import KINDS, Fact


@lru_cache(maxsize=64)
def facts_of(name: str, part: str) -> tuple[Fact, ...]:
    """Return what the problems of a part of a task are made of, in an order that mixes them; no answer is computed.

    Args:
        name: One of ``KINDS``.
        part: ``train``, ``validation`` or ``test``.
    """
    kind = KINDS[name]
    shown = {kind.key(fact) for fact in kind.examples}
    keys = ((fact, kind.key(fact)) for fact in kind.facts())
    mine = [fact for fact, key in keys if key not in shown and part_of(name, key) == part]
    return tuple(sorted(mine, key=lambda fact: digest(name, "order", *fact)))
