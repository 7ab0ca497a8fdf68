"""``sharpen llm data``: what a data set holds, and how much of a test set is in a training set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.tasks.data import PromptSet
    from sharpen.llm.tasks.overlap import Overlap


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("data")(data)


@options.flat
def data(
    train: Annotated[str, typer.Option(help="Training set: a name, a hub id, a file or folder.")] = "math",
    train_split: Annotated[str, typer.Option(help="Part of the training set.")] = "train",
    test: Annotated[
        list[str] | None, typer.Option(help="Test set, in the same forms; several times for several.")
    ] = None,
    test_split: Annotated[str, typer.Option(help="Part of the test sets.")] = "test",
    show: Annotated[int | None, typer.Option(help="Print so many pairs of problems of each test set.", min=1)] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Count the test problems that are in a training set: the same text, the same after normalisation, nearly the same.

    sharpen llm train leaves the first two out of its training set and says how many they are.
    """
    options.refuse_with("show", show, "json", json_output)
    require_packages()
    from sharpen.llm.tasks.overlap import overlap
    from sharpen.llm.tasks.sources import load_source

    learned = load_source(train, train_split).prompts()
    found: list[tuple[PromptSet, Overlap]] = []
    for name in test or ["math500"]:
        asked = load_source(name, test_split).prompts()
        found.append((asked, overlap(learned, asked)))
    if json_output:
        say(json.dumps([result.to_dict() for _, result in found]))
    else:
        _print(learned, found, show or 0)


def _print(learned: PromptSet, found: list[tuple[PromptSet, Overlap]], show: int) -> None:
    console = terminal.plain_console()
    repeated = found[0][1].repeated
    console.print(f"{learned.name}: {len(learned.prompts)} problems, {repeated} of them again", soft_wrap=True)
    table = terminal.plain_table()
    for place, heading in enumerate(("test set", "problems", "identical", "same", "near", "left out")):
        table.add_column(heading, justify="right" if place else "left", overflow="fold")
    for _, result in found:
        numbers = (result.test_problems, result.identical, result.same, result.near, result.removed)
        table.add_row("/".join(result.test.split("/")[-2:]), *map(str, numbers))
    console.print(table)
    texts = {prompt.id: " ".join(prompt.text.split()) for prompt in learned.prompts}
    for asked, result in found:
        own = {prompt.id: " ".join(prompt.text.split()) for prompt in asked.prompts}
        for left, right, degree in result.pairs[:show]:
            console.print(f"{degree}: {left} and {right}\n  {texts[left]}\n  {own[right]}")
