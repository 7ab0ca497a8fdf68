"""``sharpen llm tasks``: which tasks have a name."""

from __future__ import annotations

import json

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("tasks")(tasks)


@options.flat
def tasks(json_output: options.JsonOutput = False) -> None:
    """List the tasks that have a name, for --task; a file, a hub id and module:object do as well."""
    require_packages()
    from sharpen.llm import list_data_sets

    found = list_data_sets()
    if json_output:
        say(json.dumps(found.reset_index().to_dict("records")))
        return
    table = terminal.plain_table()
    for heading in ("task", "what it asks"):
        table.add_column(heading, overflow="fold")
    for name, about in found["about"].items():
        table.add_row(str(name), str(about))
    terminal.plain_console().print(table)
