"""``sharpen theory fold``: which optima GRPO with a KL penalty has on a prompt, and where they meet."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.theory.instability.fold import Fold


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("fold")(fold)


def fold(
    base_success: Annotated[float, typer.Option(help="The base's success rate on the prompt, between 0 and 1.")] = 0.05,
    beta: Annotated[float, typer.Option(help="Weight of the KL penalty, > 0.")] = 2.0,
    group: Annotated[
        int | None, typer.Option(help="Samples in a group. Default: the limit of large groups.", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the phase diagram to a .png, .pdf or .svg file.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Find every optimum of GRPO with a KL penalty on one prompt: inside, or certainty alone.

    Dividing advantages by the deviation of a group's rewards makes being always right an optimum at every weight.
    """
    from sharpen.theory.instability.fold import fold as find

    found = find(base_success, beta, group)
    if plot is not None:
        from sharpen.figures.theory.fold import plot_fold

        plot_fold(base_success, group, plot)
    if json_output:
        say(json.dumps(_as_json(found, base_success, beta, group), allow_nan=False))
    else:
        _print(found, base_success, beta, group)


def _as_json(found: Fold, base_success: float, beta: float, group: int | None) -> dict[str, Any]:
    return {
        "base_success": base_success,
        "beta": beta,
        "group": group,
        "state": found.state,
        "optima": [
            {**each.__dict__, "log_odds": each.log_odds if math.isfinite(each.log_odds) else None}
            for each in found.optima
        ],
        "least_beta": found.least_beta,
        "equal_beta": found.equal_beta,
    }


def _print(found: Fold, base_success: float, beta: float, group: int | None) -> None:
    console = terminal.plain_console()
    terminal.introduce(
        "Where GRPO with a KL penalty ends on one prompt: an optimum inside keeps some wrong answers, certainty keeps "
        "none. Which of them exist depends on the weight of the KL. J: the utility of the success rate, less weight "
        "times KL in nats."
    )
    groups = "large groups" if group is None else f"groups of {group}"
    console.print(f"GRPO with KL weight {beta:g}, {groups}, base right with {base_success:g}: {found.state}")
    table = terminal.number_table(["optimum", "success rate", "1 - rate", "J"])
    for each in found.optima:
        missing = 0.0 if math.isinf(each.log_odds) else 1.0 / (1.0 + math.exp(min(each.log_odds, 700.0)))
        worth = "-" if each.value is None else f"{each.value:.4f}"
        table.add_row(each.kind, f"{each.success:.6g}", f"{missing:.3g}", worth)
    console.print(table)
    if group is None:
        console.print(f"an optimum inside exists from weight {found.least_beta:.4g} on")
        console.print(f"it is worth more than certainty from weight {found.equal_beta:.4g} on")
