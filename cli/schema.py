"""``sharpen schema``: what a command prints with ``--json``, as a JSON Schema."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpen.cli.shared.terminal import say


def schema(
    command: Annotated[
        list[str] | None,
        typer.Argument(help="A command, as: llm forecast. Without one: all that have --json.", show_default=False),
    ] = None,
) -> None:
    """Print the JSON Schema of what a command prints with --json; docs/json.md has all of them as tables.

    The schemas have one version. It is raised when a field goes, or changes its name, type or meaning; a field that is
    added does not raise it.
    """
    from sharpen.cli.schemas.commands import PRINTED, VERSION, schema_of

    if command is None:
        say(f"version {VERSION} of the JSON outputs of")
        say("\n".join(f"  sharpen {name}" for name in PRINTED))
        return
    import json

    say(json.dumps(schema_of(" ".join(command)), indent=2))
