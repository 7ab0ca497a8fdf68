"""``sharpen toy phase``: a learner on the simplex of three outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli import options, terminal
from sharpen.cli.terminal import say
from sharpen.cli.theory_phase import DEFAULT_BASE, DIGITS, as_json, policy_text, print_tables

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.problem import Problem
    from sharpen.toy.phase import LearnerPortrait

RUNS = "Animation"


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("phase")(phase)


@options.flat
def phase(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    learner: Annotated[str, typer.Option(help="natural, softmax, rloo, grpo, ppo, … (any but tb).")] = "rloo",
    group_size: Annotated[int, typer.Option(help="Samples of an update, 2 to 64.")] = 16,
    kl: Annotated[str, typer.Option(help="Where the KL estimate stands: k1-reward, k3-loss, ….")] = "k1-reward",
    step_size: Annotated[float, typer.Option(help="eta of the runs; of the field only for ppo and dapo.")] = 0.2,
    plot: Annotated[Path | None, typer.Option(help="Draw both panels to a .png, .pdf or .svg file.")] = None,
    animate: Annotated[
        Path | None, typer.Option(help="Write runs on the simplex to a .gif or .mp4 file.", rich_help_panel=RUNS)
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs from the base.", min=1, max=10_000, rich_help_panel=RUNS)] = 64,
    starts: Annotated[
        int | None,
        typer.Option(help="Instead, one run from each of N x N policies.", min=1, max=100, rich_help_panel=RUNS),
    ] = None,
    steps: Annotated[int, typer.Option(help="Updates.", min=1, rich_help_panel=RUNS)] = 400,
    frames: Annotated[int, typer.Option(help="Frames after the first.", min=1, rich_help_panel=RUNS)] = 100,
    seed: Annotated[int, typer.Option(help="Of all random numbers.", min=0, rich_help_panel=RUNS)] = 0,
    json_output: options.JsonOutput = False,
) -> None:
    """Draw where a learner's mean update leads on three outcomes: vector field, nullclines, rest points, runs.

    The mean over every group of samples is exact. Without flags: RLOO on the tempered objective (alpha 2), on the base
    0.5,0.3,0.2, of which outcome 1 is correct.
    """
    spec = chosen.build(default="tempered")

    from sharpen.toy.phase import learner_portrait

    problem = replace(outcomes, base=outcomes.base or DEFAULT_BASE).build()
    if animate is not None:
        from sharpen.figures.toy_phase import check_animation_path

        check_animation_path(animate)  # before anything is computed
    found = learner_portrait(spec, problem, learner, group_size=group_size, kl=kl, step_size=step_size)
    if plot is not None:
        from sharpen.figures.toy_phase import plot_learner

        plot_learner(spec, problem, found, plot)
    if animate is not None:
        start = _starts(problem, runs, starts)
        _animate(spec, problem, found, start, animate, (group_size, kl, step_size, steps, frames, seed))
    if json_output:
        import json

        say(json.dumps(_report(spec, problem, found), allow_nan=False))
    else:
        print_tables(spec, problem, found.theory)
        _print_learner(found)


def _starts(problem: Problem, runs: int, side: int | None) -> Any:
    import numpy as np

    from sharpen.theory.phase import simplex_grid

    return np.tile(problem.base, (runs, 1)) if side is None else simplex_grid(side)


def _animate(
    spec: Objective,
    problem: Problem,
    found: LearnerPortrait,
    starts: Any,
    path: Path,
    run: tuple[int, str, float, int, int, int],
) -> None:
    from sharpen.figures.toy_phase import animate_runs
    from sharpen.toy.estimators import Options
    from sharpen.toy.phase_runs import runs_from

    group_size, kl, step_size, steps, frames, seed = run
    updates, policies = runs_from(
        spec,
        problem,
        found.learner,
        starts,
        options=Options(group_size=group_size, kl=kl),
        step_size=step_size,
        steps=steps,
        records=min(frames, steps),
        seed=seed,
    )
    animate_runs(spec, problem, found, updates.tolist(), policies, path)


def _report(spec: Objective, problem: Problem, found: LearnerPortrait) -> dict[str, Any]:
    """Return the JSON object: that of `sharpen theory phase`, and the learner's."""
    from sharpen.toy.phase import learner_nullclines

    report = as_json(spec, problem, found.theory)
    report["nullclines"] = [[curve.round(DIGITS).tolist() for curve in of_one] for of_one in learner_nullclines(found)]
    report["learner"] = {
        "name": found.learner,
        "cosine_at_base": found.cosine,
        "gain_at_base": found.gain,
        "rest_points": [
            {
                "probabilities": point.policy.tolist(),
                "class": point.kind,
                "eigenvalues": point.eigenvalues.tolist(),
                "kl_optimum": point.kl_optimum,
            }
            for point in found.rest
        ],
    }
    return report


def _print_learner(found: LearnerPortrait) -> None:
    console = terminal.plain_console()
    if found.gain is not None:
        cosine = "" if found.cosine is None else f", cosine {found.cosine:.4f}"
        console.print(f"{found.learner} at the base: {found.gain:.4g} times the length of the gradient{cosine}")
    for point in found.rest:
        off = "" if point.kl_optimum is None else f", KL to pi* {point.kl_optimum:.2g}"
        rates = ", ".join(f"{x:.3g}" for x in point.eigenvalues.tolist())
        console.print(f"{found.learner} rests at {policy_text(point.policy)}, {point.kind} ({rates}){off}")
