"""While a run without labels trains, the answers of every data set of the package are sealed in its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sharpen.objective import InputError

_seals: list[str] = []  # of the whole process, not of a thread: a part may start one


@contextmanager
def sealed(why: str) -> Iterator[None]:
    """Let no answers be opened in this process within the block.

    This stops what goes through the package's doors, by mistake or not. It is no sandbox: see docs/rewards.md.

    Args:
        why: What is going on, for the message.

    Example:
        >>> with sealed("a training without labels"):
        ...     refuse_if_sealed("numbers.jsonl")
        Traceback (most recent call last):
            ...
        sharpen.objective.errors.InputError: answers: got 'numbers.jsonl', allowed: none during a training without \
labels; a reward that needs them declares needs_answers=True
    """
    _seals.append(why)
    try:
        yield
    finally:
        _seals.remove(why)


def refuse_if_sealed(name: str) -> None:
    """Refuse to open the answers of a data set where they are sealed; called before any of them is read or computed.

    Raises:
        InputError: they are sealed.
    """
    if _seals:
        wanted = f"none during {_seals[-1]}; a reward that needs them declares needs_answers=True"
        raise InputError("answers", name, wanted)
