"""``sharpen llm outcomes``: the likeliest responses of a model, and bounds on what all others can change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, LONG_PROMPTS, TEMPLATE, chat_options
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.outcomes.run import OutcomesReport

ASKED, TREE, MACHINE = "What is asked", "When a tree stops", "Machine"


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("outcomes")(outcomes)


def _flag(help: str, panel: str) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, show_default=False)


@options.flat
def outcomes(
    out: Annotated[Path, typer.Option(help="Folder for the tables; the same command continues it.")],
    model: Annotated[
        str,
        typer.Option(help="embedded, smollm2, …, a hub id, a folder, a run folder or one of its checkpoints."),
    ] = "embedded",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Which checkpoint of a run folder: last (the default), best, base, or a number of updates."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the bounds to a .png, .pdf or .svg file.")] = None,
    alpha: Annotated[
        str, typer.Option(help="Exponents, at least 1, of the bounds.", rich_help_panel=TREE, metavar="A,A,...")
    ] = "2",
    width: Annotated[
        float | None, _flag("Stop when the interval of E[r] is so narrow at each of them (0.01).", TREE)
    ] = None,
    threshold: Annotated[float | None, _flag("Prefixes less likely are not followed (0.0001).", TREE)] = None,
    budget: Annotated[int | None, _flag("Most forward tokens per prompt, beyond its own (1000).", TREE)] = None,
    task: Annotated[str | None, _flag("As --data: a task, as `sharpen llm tasks` lists them.", ASKED)] = None,
    data: Annotated[str | None, _flag("math500, math, …, a hub id, a file or folder.", ASKED)] = None,
    split: Annotated[str | None, _flag("test (the default), validation or train.", ASKED)] = None,
    problems: Annotated[int | None, _flag("The first N problems only.", ASKED)] = None,
    template: Annotated[str | None, _flag(TEMPLATE, ASKED)] = None,
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=ASKED)
    ] = None,
    long_prompts: Annotated[str | None, _flag(LONG_PROMPTS, ASKED)] = None,
    max_length: Annotated[int | None, _flag("Prompt and response, in tokens.", ASKED)] = None,
    max_response: Annotated[int | None, _flag("Response, in tokens; one cut there is an outcome.", ASKED)] = None,
    prefixes: Annotated[int | None, _flag("Prefixes computed in one pass (16).", MACHINE)] = None,
    device: Annotated[str | None, _flag("auto, cpu or cuda.", MACHINE)] = None,
    dtype: Annotated[
        str | None, _flag("float32, or bfloat16: bounds then hold for the model as it rounds.", MACHINE)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete earlier outcomes in --out first.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Find a model's likeliest responses to each problem, and bound E[r] under p^alpha by what is left.

    Every response that is not in the table lies below a prefix whose probability is, so the bounds hold for certain,
    up to rounding. sharpen theory optimum --problems reads the tables.
    """
    require_packages()
    from sharpen.llm.configs.outcomes import OutcomesConfig
    from sharpen.llm.outcomes.run import run_outcomes

    options.refuse_with("task", task, "data", data)
    if plot is not None:
        from sharpen.figures.style import check_figure_path

        check_figure_path(plot)  # before an hour of work
    asked = {"model": model, "checkpoint": checkpoint, "alphas": _exponents(alpha), "width": width, "budget": budget}
    asked |= {"threshold": threshold, "data": task or data, "split": split, "problems": problems, "template": template}
    asked |= {"chat_options": chat_options(chat_option) if chat_option else None, "long_prompts": long_prompts}
    asked |= {"max_length": max_length, "max_response": max_response, "prefixes": prefixes}
    asked |= {"device": device, "dtype": dtype}
    config = OutcomesConfig(**{name: flag for name, flag in asked.items() if flag is not None})

    from transformers.utils import logging

    logging.disable_progress_bar()
    result = run_outcomes(config, out, force=force, report=_progress())
    if plot is not None:
        from sharpen.figures.llm.outcomes import plot_outcomes

        plot_outcomes(result, plot)
    if json_output:
        import json

        say(json.dumps(result, allow_nan=False))
    else:
        _print(result, out)


def _exponents(text: str) -> list[float]:
    import math

    from sharpen.objective import InputError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError("alpha", text, "numbers >= 1, with commas between them") from error
    if not all(math.isfinite(one) and one >= 1 for one in found):
        raise InputError("alpha", text, "finite numbers >= 1: below 1 the outcomes that are not seen have no bound")
    return found


def _progress() -> OutcomesReport:
    """Return a reporter that writes a line per problem to stderr."""
    import time

    from sharpen.llm.outcomes.run import OutcomesReport

    began = time.monotonic()

    def progress(records: list[Any], total: int, earlier: int) -> None:
        left = (time.monotonic() - began) * (total - len(records)) / max(1, len(records) - earlier)
        last = records[-1]
        seen = sum(one is not None for one in last.reward)
        say(
            f"{len(records):>5}/{total} problems  {seen} outcomes, {last.forward_tokens} tokens ({last.stopped})  "
            f"about {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    return OutcomesReport(note=lambda text: say(text, file=sys.stderr, flush=True), progress=progress)


def _print(result: dict[str, Any], out: Path) -> None:
    terminal.introduce(
        "The model's likeliest responses to each problem, found by search, and between what the expected reward E[r] "
        "of p^alpha must lie given what was not found."
    )
    console = terminal.plain_console()
    console.print(
        f"{result['model']}\n{result['data']} {result['split']}, {result['problems']} problems", soft_wrap=True
    )
    table = terminal.number_table(["alpha", "E[r] at least", "at most", "width", "widest"])
    for row in result["curve"]:
        ends = (f"{row[name]:.4f}" for name in ("low", "high"))
        table.add_row(f"{row['alpha']:g}", *ends, f"{row['width']:.1e}", f"{row['widest']:.1e}")
    console.print(table)
    tokens = result["forward_tokens"]
    console.print(
        f"{result['outcomes']:.1f} outcomes and {tokens['mean']:.1f} forward tokens per problem (at most "
        f"{tokens['most']})\nthe mode is certain for {result['mode_certain']:.1%} of the problems\nstopped by "
        + ", ".join(f"{why}: {count}" for why, count in result["stopped"].items())
    )
    console.print(f"results: {out}", soft_wrap=True)
