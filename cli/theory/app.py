"""``sharpen theory``: what the objective does on a finite problem, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.counts import count_json
from sharpen.cli.shared.terminal import say
from sharpen.cli.theory import coverage as theory_coverage
from sharpen.cli.theory import derive as theory_derive
from sharpen.cli.theory import estimators as theory_estimators
from sharpen.cli.theory import fold as theory_fold
from sharpen.cli.theory import known
from sharpen.cli.theory import optimum as theory_optimum
from sharpen.cli.theory import phase as theory_phase
from sharpen.cli.theory import response as theory_response
from sharpen.cli.theory import selfsharpening as theory_selfsharpening
from sharpen.cli.theory import sensitivity as theory_sensitivity
from sharpen.cli.theory import sequences as theory_sequences
from sharpen.cli.theory.points import print_points

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.instability.families import StationaryFamily
    from sharpen.theory.instability.stationary import FixedPoint, FixedPoints
    from sharpen.theory.optima.optimum import Optimum

app = typer.Typer(no_args_is_help=True, help="Optima, fixed points and stability on a finite problem, exactly.")


@app.callback()
def group() -> None:
    """Optima, fixed points and stability on a finite problem, exactly."""


@app.command("fixed-points")
@options.flat
def fixed_points(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    problems: known.Problems = None,
    one: known.OneProblem = None,
    limit: Annotated[int, typer.Option(help="Find at most this many fixed points.")] = 4096,
    plot: Annotated[
        Path | None, typer.Option(help="Draw optimum and fixed points to a .png, .pdf or .svg file.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List every fixed point, not only those that attract.")
    ] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Find the optimum and every fixed point of the natural-gradient flow, with eigenvalues and stability.

    Lists the optimum and the points that attract, and counts the others. Without flags: the tempered objective
    (alpha 2) on five outcomes whose likeliest one is wrong.
    """
    options.refuse_with("all", everything, "json", json_output)
    spec = chosen.build(default="tempered")

    from sharpen.theory.instability.stationary import MAX_NUMBERS
    from sharpen.theory.instability.stationary import fixed_points as find
    from sharpen.theory.optima.optimum import optimum

    known.instead_of(problems, one, outcomes)
    seen = None if problems is None else known.single(problems, one)
    problem = outcomes.build(spec.length_exponent != 0.0) if seen is None else seen.problem()
    best = optimum(spec, problem)
    found = find(spec, problem, min(limit, max(1, MAX_NUMBERS // problem.n)))
    if plot is not None:
        from sharpen.figures.theory.fixed_points import plot_fixed_points

        plot_fixed_points(spec, problem, best, found, plot)
    if json_output:
        import json

        of = {} if seen is None else {"prompt_id": seen.name, "unseen_mass": seen.unseen_mass}
        say(json.dumps(_as_json(spec, problem, best, found) | of, allow_nan=False))
    else:
        if seen is not None:
            terminal.plain_console().print(known.left_out(seen), soft_wrap=True)
        print_points(spec, problem, best, found, everything)


def _as_json(objective: Objective, problem: Problem, best: Optimum, found: FixedPoints) -> dict[str, Any]:
    """Return the command's JSON object; infinite eigenvalues are the strings "inf" and "-inf"."""
    from sharpen.theory.instability.families import stationary_families

    families = stationary_families(objective, problem) if objective.utility == "identity" else ()
    return {
        "objective": objective.to_dict(),
        "regime": objective.regime,
        "coefficients": objective.coefficients._asdict(),
        "base": problem.base.tolist(),
        "reward": problem.reward.tolist(),
        "length": problem.length.tolist(),
        "optimum": {**_policy_as_json(best), "unique": best.unique},
        "fixed_points": [
            {
                **_policy_as_json(point),
                "eigenvalues": [x if abs(x) < float("inf") else str(x) for x in point.eigenvalues.tolist()],
                "class": point.kind,
                "continuum": point.continuum,
            }
            for point in found.points
        ],
        "families": [_family_as_json(family) for family in families],
        "total": count_json(found.total),
        "complete": found.complete,
    }


def _policy_as_json(point: Optimum | FixedPoint) -> dict[str, Any]:
    return {
        "support": list(point.support),
        "probabilities": point.probabilities.tolist(),
        "value": point.value if point.value > float("-inf") else "-inf",
        "expected_reward": point.expected_reward,
    }


def _family_as_json(family: StationaryFamily) -> dict[str, Any]:
    def ends(given: tuple[float, float] | None) -> list[float | str] | None:
        return given and [x if abs(x) < float("inf") else str(x) for x in given]

    return {
        "class": family.kind,
        "count": count_json(family.count),
        "smallest": family.smallest,
        "largest": family.largest,
        "inside": ends(family.inside),
        "across": ends(family.across),
        "continuum": family.continuum,
    }


theory_derive.register(app)
theory_sequences.register(app)
theory_phase.register(app)
theory_estimators.register(app)
theory_coverage.register(app)
theory_sensitivity.register(app)
theory_optimum.register(app)
theory_response.register(app)
theory_fold.register(app)
theory_selfsharpening.register(app)
