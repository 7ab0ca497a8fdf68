"""The commands, for tests that look at each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sharpen.cli.main import tree


def leaves(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield words and command of all that is no group: below a command, or of all where none is given."""
    command = command or tree()
    if hasattr(command, "commands"):
        for name, inside in command.commands.items():
            yield from leaves(inside, (*words, name))
    else:
        yield " ".join(words), command
