"""``sharpen theory phase``: fixed points, basins and their borders for three outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.shared.words import weights

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.instability.phase import Portrait

DEFAULT_BASE = "0.5,0.3,0.2"  # with the shared default reward: outcome 1 is correct, the likeliest, 0, is not
RESOLUTION = 100
DIGITS = 6  # of the coordinates of drawn curves in the JSON


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("phase")(phase)


@options.flat
def phase(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    field: Annotated[
        str, typer.Option(help="natural (replicator) or softmax (vanilla policy gradient) flow.")
    ] = "natural",
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Side of the grid of starts that checks the basins' shares in --json, 1 to 2000. Default 100.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the phase portrait to a .png, .pdf or .svg file.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Draw and list the phase portrait of three outcomes: fixed points, basins, borders, nullclines.

    Without flags: the tempered objective (alpha 2) on the base 0.5,0.3,0.2, of which outcome 1 is correct.
    """
    spec = chosen.build(default="tempered")

    from sharpen.theory.instability.phase import grid_shares, portrait

    options.only_where(json_output, "--json", resolution=resolution)
    base = DEFAULT_BASE if outcomes.base is None else outcomes.base
    problem = replace(outcomes, base=base).build(spec.length_exponent != 0.0)
    found = portrait(spec, problem, field)
    if plot is not None:
        from sharpen.figures.theory.phase import plot_phase

        plot_phase(spec, problem, found, plot)
    if json_output:
        import json

        report, resolution = as_json(spec, problem, found), RESOLUTION if resolution is None else resolution
        for basin, share in zip(report["basins"], grid_shares(found, resolution), strict=True):
            basin["grid_share"] = share
        say(json.dumps(report | {"grid_resolution": resolution}, allow_nan=False))
    else:
        print_tables(spec, problem, found)


def as_json(objective: Objective, problem: Problem, found: Portrait) -> dict[str, Any]:
    """Return a portrait as JSON; infinite eigenvalues are the strings "inf" and "-inf"."""
    from sharpen.theory.instability.phase import null_curves, streamlines

    return {
        "objective": objective.to_dict(),
        "regime": objective.regime,
        "field": found.field,
        "base": problem.base.tolist(),
        "reward": problem.reward.tolist(),
        "length": problem.length.tolist(),
        "fixed_points": [
            {
                "support": list(point.support),
                "probabilities": point.probabilities.tolist(),
                "class": point.kind,
                "eigenvalues": [x if abs(x) < float("inf") else str(x) for x in eigenvalues.tolist()],
                "continuum": point.continuum,
                "value": point.value,
                "expected_reward": point.expected_reward,
            }
            for point, eigenvalues in zip(found.points, found.eigenvalues, strict=True)
        ],
        "basins": [
            {
                "support": list(basin.support),
                "end": basin.end.tolist(),
                "continuum": basin.continuum,
                "share": basin.share,
            }
            for basin in found.basins
        ],
        "exact": found.exact,
        "separatrices": [
            {"saddle": list(border.saddle), "exact": border.exact, "points": border.points.tolist()}
            for border in found.separatrices
        ],
        "nullclines": [[curve.round(DIGITS).tolist() for curve in curves] for curves in null_curves(found)],
        "streamlines": [curve.round(DIGITS).tolist() for curve in streamlines(found)],
    }


def print_tables(objective: Objective, problem: Problem, found: Portrait) -> None:
    """Print the fixed points and where the simplex ends."""
    terminal.introduce(
        "Where training on three outcomes can come to rest, and which share of all starting policies ends there. "
        "policy: the three probabilities; eigenvalues: growth rates of small deviations, negative where they die out."
    )
    console = terminal.plain_console()
    console.print(weights(objective))
    console.print(f"base {policy_text(problem.base)}, {found.field} gradient")
    table = terminal.plain_table()
    for name in ("class", "policy", "E[r]", "eigenvalues"):
        table.add_column(name, no_wrap=True, justify="right" if name == "E[r]" else "left")
    for point, eigenvalues in zip(found.points, found.eigenvalues, strict=True):
        table.add_row(
            f"{point.kind} face" if point.continuum else point.kind,
            policy_text(point.probabilities),
            f"{point.expected_reward:.3f}",
            ", ".join(f"{x:.3g}" for x in eigenvalues.tolist()),
        )
    console.print(table)
    how = "exact" if found.exact else "borders integrated"
    for basin in found.basins:
        where = f"the face of outcomes {list(basin.support)}" if basin.continuum else policy_text(basin.end)
        console.print(f"{100 * basin.share:6.2f} % of the simplex ends at {where} ({how})")


def policy_text(probabilities: Any) -> str:
    """Return probabilities to three decimals."""
    return " ".join(f"{p:.3f}" if p == 0 or p >= 5e-4 else f"{p:.0e}" for p in probabilities.tolist())
