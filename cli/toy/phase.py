"""``sharpen toy phase``: a learner on the simplex of three outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.theory.phase import DEFAULT_BASE, DIGITS, as_json, policy_text, print_tables

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.toy.studies.phase import LearnerPortrait

RUNS = "Animation"


def _optional(help: str) -> Any:
    return typer.Option(help=help, show_default=False)


def _run(help: str, *, least: int = 1, most: int) -> Any:
    return typer.Option(help=help, min=least, max=most, rich_help_panel=RUNS, show_default=False)


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("phase")(phase)


@options.flat
def phase(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    learner: Annotated[str, typer.Option(help="natural, softmax, rloo, grpo, ppo, … (any but tb).")] = "rloo",
    group_size: Annotated[int | None, _optional("Samples of an update, 2 to 64. Default 16.")] = None,
    kl: Annotated[
        str | None, _optional("Where the KL estimate stands: k1-reward, k3-loss, …. Default k1-reward.")
    ] = None,
    step_size: Annotated[
        float | None, _optional("Step size eta of the runs, and of the field for ppo and dapo. Default 0.2.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw both panels to a .png, .pdf or .svg file.")] = None,
    animate: Annotated[
        Path | None, typer.Option(help="Write runs on the simplex to a .gif or .mp4 file.", rich_help_panel=RUNS)
    ] = None,
    runs: Annotated[int | None, _run("Runs from the base. Default 64.", most=10_000)] = None,
    starts: Annotated[int | None, _run("Instead, one run from each of N x N policies.", most=100)] = None,
    steps: Annotated[int | None, _run("Updates. Default 400.", most=10**7)] = None,
    frames: Annotated[int | None, _run("Frames after the first. Default 100.", most=10**4)] = None,
    seed: Annotated[int | None, _run("Seed of all random numbers. Default 0.", least=0, most=2**31 - 1)] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Draw where a learner's mean update leads on three outcomes: vector field, nullclines, rest points, runs.

    The mean over every group of samples is exact. Without flags: RLOO on the tempered objective (alpha 2), on the base
    0.5,0.3,0.2, of which outcome 1 is correct.
    """
    spec = chosen.build(default="tempered")

    from sharpen.toy.studies.phase import learner_portrait

    given = {"runs": runs, "starts": starts, "steps": steps, "frames": frames, "seed": seed}
    options.only_where(animate is not None, "--animate", **given)
    options.only_where(starts is None, "runs from the base, not --starts", runs=runs)
    _check_learner_flags(learner, animate is not None, group_size, kl, step_size)
    update = (_or(group_size, 16), _or(kl, "k1-reward"), _or(step_size, 0.2))
    base = DEFAULT_BASE if outcomes.base is None else outcomes.base
    problem = replace(outcomes, base=base).build(spec.length_exponent != 0.0)
    if animate is not None:
        from sharpen.figures.toy.phase import check_animation_path

        check_animation_path(animate)  # before anything is computed
    found = learner_portrait(spec, problem, learner, group_size=update[0], kl=update[1], step_size=update[2])
    if plot is not None:
        from sharpen.figures.toy.phase import plot_learner

        plot_learner(spec, problem, found, plot)
    if animate is not None:
        start = _starts(problem, _or(runs, 64), starts)
        _animate(spec, problem, found, start, animate, (*update, _or(steps, 400), _or(frames, 100), _or(seed, 0)))
    if json_output:
        import json

        say(json.dumps(_report(spec, problem, found), allow_nan=False))
    else:
        print_tables(spec, problem, found.theory)
        _print_learner(found)


def _or(given: Any, default: Any) -> Any:
    return default if given is None else given


def _check_learner_flags(
    learner: str, animated: bool, group_size: int | None, kl: str | None, step_size: float | None
) -> None:
    from sharpen.toy.learners.registry import LEARNERS

    part = LEARNERS.get(learner)
    options.only_where(not part.exact, "a sampled learner", group_size=group_size, kl=kl)
    several = animated or part.several_epochs
    options.only_where(several, "--animate, or a learner of several epochs", step_size=step_size)


def _starts(problem: Problem, runs: int, side: int | None) -> Any:
    import numpy as np

    from sharpen.theory.instability.phase import simplex_grid

    return np.tile(problem.base, (runs, 1)) if side is None else simplex_grid(side)


def _animate(
    spec: Objective,
    problem: Problem,
    found: LearnerPortrait,
    starts: Any,
    path: Path,
    run: tuple[int, str, float, int, int, int],
) -> None:
    from sharpen.figures.toy.phase import animate_runs
    from sharpen.toy.learners.parts.learner import Options
    from sharpen.toy.studies.phase_runs import runs_from

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
    from sharpen.toy.studies.phase import learner_nullclines

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
