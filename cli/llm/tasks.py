"""``sharpen llm tasks``: which tasks have a name."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("tasks")(tasks)


@options.flat
def tasks(
    generators: Annotated[
        bool, typer.Option("--generators", help="Those of reasoning-gym, gym:NAME, with their categories.")
    ] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """List the tasks that have a name, for --task; a file, a hub id and module:object do as well."""
    require_packages()
    from sharpen.llm import list_data_sets

    rows = _generators() if generators else {str(name): str(about) for name, about in list_data_sets()["about"].items()}
    if json_output:
        say(json.dumps([{"task": name, "about": about} for name, about in rows.items()]))
        return
    table = terminal.plain_table()
    for heading in ("task", "what it asks"):
        table.add_column(heading, overflow="fold")
    for name, about in rows.items():
        table.add_row(name, about)
    terminal.plain_console().print(table)
    if not generators:
        say("and gym:NAME, the generators of reasoning-gym: sharpen llm tasks --generators")


def _generators() -> dict[str, str]:
    from sharpen.llm.tasks.gym.names import ALL, CATEGORY, PREFIX, categories

    groups = categories()
    rows = {f"{PREFIX}{CATEGORY}{name}": f"{len(members)} generators" for name, members in groups.items()}
    singles = {member: name for name, members in groups.items() if name != ALL for member in members}
    return rows | {f"{PREFIX}{member}": name for member, name in sorted(singles.items())}
