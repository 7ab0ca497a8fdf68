"""``sharpen theory response``: how the optimum's expected reward answers to alpha or beta_inv."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.theory import known

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.optima.response import Curve, Turn, TurningPoint

MOST_GRID = 100_001
PLOT_POINTS = 201


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("response")(response)


@options.flat
def response(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    over: Annotated[str, typer.Option(help="alpha or beta_inv; the other one is the objective's.")] = "alpha",
    low: Annotated[
        float | None,
        typer.Option("--from", help="First value. Default 0; of alpha with --problems 1.", show_default=False),
    ] = None,
    high: Annotated[float, typer.Option("--to", help="Last value.")] = 4.0,
    points: Annotated[int, typer.Option(help="Number of values, evenly spaced.")] = 9,
    problems: known.Problems = None,
    one: known.OneProblem = None,
    plot: Annotated[Path | None, typer.Option(help="Draw reward and derivative to a .png, .pdf or .svg file.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compute the optimum's expected reward against alpha or beta_inv, where it turns, when sharpening stops helping.

    Without flags: the tempered objective on five outcomes whose likeliest one is wrong.
    """
    if over == "beta_inv" and chosen.beta_inv is None and chosen.utility is not None:
        chosen = replace(chosen, beta_inv=1.0)  # not read, but a utility is one of a reward
        spec = chosen.build(default="tilted")
        chosen = replace(chosen, beta_inv=None)
    else:
        spec = chosen.build(default="tempered")

    import numpy as np

    from sharpen.objective import InputError
    from sharpen.theory.optima.response import Turn, curve, stops_helping, turning_points

    if over not in ("alpha", "beta_inv"):
        raise InputError("over", over, "alpha or beta_inv")
    options.only_where(over != "alpha", "--over beta_inv", alpha=chosen.alpha)
    options.only_where(over != "beta_inv", "--over alpha", beta_inv=chosen.beta_inv)
    if not 2 <= points <= MOST_GRID:
        raise InputError("points", points, f"a whole number from 2 to {MOST_GRID:,}")
    known.instead_of(problems, one, outcomes, plot=plot)
    low = float(problems is not None and over == "alpha") if low is None else low
    if not 0.0 <= low < high < math.inf:
        raise InputError("from, to", [low, high], "0 <= from < to, both finite")
    if problems is not None:
        grid = np.linspace(low, high, points).tolist()
        known.report_response(spec, known.chosen_of(problems, one), over, grid, json_output)
        return
    problem = outcomes.build(spec.length_exponent != 0.0)
    parameter = "alpha" if over == "alpha" else "beta_inv"
    found = curve(spec, problem, parameter, np.linspace(low, high, points))
    turns: tuple[TurningPoint, ...] = ()
    turn = Turn(None, None)
    if over == "alpha" and spec.utility == "identity":
        try:
            turns, turn = turning_points(spec, problem, low, high), stops_helping(problem, spec)
        except InputError as error:
            allowed = f"{error.allowed} where beta_inv is {spec.beta_inv:g}"
            raise InputError(error.field, error.value, allowed) from error
    base = problem.expected_reward(problem.base)
    if plot is not None:
        from sharpen.figures.theory.optimum import plot_response

        smooth = curve(spec, problem, parameter, np.linspace(low, high, max(points, PLOT_POINTS)))
        plot_response(spec, problem, smooth, turns, turn, plot)
    if json_output:
        import json

        report = {
            "objective": spec.to_dict(),
            "regime": spec.regime,
            "n": problem.n,
            "over": over,
            "base_expected_reward": base,
            "grid": found.grid.tolist(),
            "expected_reward": found.expected_reward.tolist(),
            "derivative": found.derivative.tolist(),
            "turning_points": [
                {"alpha": each.alpha, "expected_reward": each.expected_reward, "kind": each.kind} for each in turns
            ],
            "stops_helping": turn.stops_helping,
            "below_base": turn.below_base,
        }
        say(json.dumps(report, allow_nan=False))
    else:
        _print_response(spec, found, turns, turn, base)


def _print_response(spec: Objective, found: Curve, turns: tuple[TurningPoint, ...], turn: Turn, base: float) -> None:
    console, table = terminal.plain_console(), terminal.number_table([found.over, "E[r]", f"dE[r]/d {found.over}"])
    terminal.introduce(
        "How the expected reward E[r] of the optimum changes with "
        + ("alpha, and where more sharpening does harm." if found.over == "alpha" else "the weight of the task reward.")
    )
    held = f"beta_inv = {spec.beta_inv:g}" if found.over == "alpha" else f"alpha = {spec.alpha:g}"
    console.print(f"E[r] of the optimum against {found.over}, {held}; base {base:.6g}")
    columns = (found.grid.tolist(), found.expected_reward.tolist(), found.derivative.tolist())
    for t, reward, slope in zip(*columns, strict=True):
        table.add_row(f"{t:.6g}", f"{reward:.6g}", f"{slope:.4g}")
    console.print(table)
    if spec.utility != "identity":
        console.print(f"utility {spec.utility}: the optimum in which the flow from the base ends")
        return
    if found.over == "beta_inv":
        console.print("the derivative is Var(r) >= 0: a task reward can only help")
        return
    for each in turns:
        console.print(f"{each.kind} of E[r] at alpha = {each.alpha:.10g}: {each.expected_reward:.6g}")
    helps, below = turn.stops_helping, turn.below_base
    console.print(
        "sharpening never lowers E[r] from alpha = 1 on"
        if helps is None
        else f"sharpening stops helping at alpha = {helps:.10g}"
    )
    console.print(
        "E[r] never falls below the base's from alpha = 1 on"
        if below is None
        else f"E[r] is below the base's from alpha = {below:.10g}"
    )
