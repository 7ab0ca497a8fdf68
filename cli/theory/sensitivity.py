"""``sharpen theory sensitivity``: how far errors of likelihood and reward move the optimum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.shared.words import weights

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.optima.noise import NoiseEffect
    from sharpen.theory.optima.sensitivity import Response, WorstCase


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("sensitivity")(options.flat(sensitivity))


def sensitivity(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    epsilon: Annotated[float, typer.Option(help="Largest error of each log p (nats) or reward.")] = 0.1,
    noise_sd: Annotated[float, typer.Option(help="Standard deviation of random errors.")] = 0.1,
    draws: Annotated[int, typer.Option(help="Simulated error vectors.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw change against size of error to a .png, .pdf or .svg file.")
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compute how far errors of the likelihood or the reward move the optimum, at worst and on average.

    Changes are total variations. Without flags: the tempered objective (alpha 2) on five outcomes.
    """
    spec = chosen.build(default="tempered")

    from sharpen.theory.optima.noise import sensitivity as find

    problem = outcomes.build(spec.length_exponent != 0.0)
    effects = find(spec, problem, epsilon, noise_sd, draws, seed)
    found = {each.source: each.response for each in effects}
    worst = {each.source: each.worst for each in effects}
    noise = {each.source: each.noise for each in effects}
    if plot is not None:
        from sharpen.figures.theory.sensitivity import plot_sensitivity

        plot_sensitivity(spec, problem, epsilon, plot, seed)
    if json_output:
        import json

        report = _as_json(spec, problem, found, worst, noise)
        settings = {"epsilon": epsilon, "noise_sd": noise_sd, "draws": draws, "seed": seed}
        say(json.dumps({**report, **settings}, allow_nan=False))
    else:
        _print_table(spec, problem, found, worst, noise, f"{epsilon:g}", f"{noise_sd:g}")


def _as_json(
    spec: Objective,
    problem: Problem,
    found: dict[Any, Response],
    worst: dict[Any, WorstCase],
    noise: dict[Any, NoiseEffect],
) -> dict[str, Any]:
    from sharpen.theory.optima.sensitivity import flip_radius

    report: dict[str, Any] = {
        "objective": spec.to_dict(),
        "regime": spec.regime,
        "base": problem.base.tolist(),
        "reward": problem.reward.tolist(),
        "length": problem.length.tolist(),
        "optimum": found["likelihood"].policy.tolist(),
    }
    report["sources"] = {}
    for source, one in found.items():
        radius = flip_radius(one)
        report["sources"][source] = {
            "gain": one.gain.tolist(),
            "worst_total_variation": worst[source].total_variation,
            "exact": worst[source].exact,
            "bound": worst[source].bound,
            "perturbation": worst[source].perturbation.tolist(),
            "flip_radius": radius if radius < float("inf") else None,
            "noise": noise[source]._asdict(),
        }
    return report


def _print_table(
    spec: Objective,
    problem: Problem,
    found: dict[Any, Response],
    worst: dict[Any, WorstCase],
    noise: dict[Any, NoiseEffect],
    epsilon: str,
    sd: str,
) -> None:

    from sharpen.theory.optima.sensitivity import flip_radius

    terminal.introduce(
        "How far the optimum moves when the likelihood or the reward is measured with an error: at worst, and on "
        "average over noise. TV: total variation, the largest change of any event's probability, 0 to 1."
    )
    console = terminal.plain_console()
    reward = problem.expected_reward(found["likelihood"].policy)
    console.print(f"{weights(spec)}; E[r] = {reward:.4f}")
    table = terminal.plain_table()
    table.add_column("error of", no_wrap=True)
    for source in found:
        table.add_column(source, justify="right", no_wrap=True)

    def row(name: str, values: list[str]) -> None:
        table.add_row(name, *values)

    exact = {source: "" if case.exact else ">= " for source, case in worst.items()}
    row(f"worst TV, errors up to {epsilon}", [f"{exact[s]}{worst[s].total_variation:.4f}" for s in found])
    row("its bound", [f"{case.bound:.4f}" for case in worst.values()])
    row("error that changes the mode", [f"{flip_radius(one):.4g}" for one in found.values()])
    row(f"mean TV, noise of sd {sd}", [f"{x.total_variation:.4f} ± {x.total_variation_se:.4f}" for x in noise.values()])
    row("P(mode changes)", [f"{x.flip_probability:.4f}" for x in noise.values()])
    row("mean E[r]", [f"{x.expected_reward:.4f} ± {x.expected_reward_se:.4f}" for x in noise.values()])
    console.print(table)
