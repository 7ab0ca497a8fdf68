"""``sharpen theory estimators``: exact bias and variance of gradient estimators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import FloatArray
    from sharpen.theory.estimators.claims import Claim
    from sharpen.theory.estimators.exact import Estimate, Setting
    from sharpen.theory.estimators.success import Ascent

DEFAULT_LENGTH = "2,6,3,9,4"  # of the default base's outcomes; unequal, so that aggregation matters
VERDICTS = {True: "confirmed", False: "refuted", None: "undecided"}


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("estimators")(estimators)


@options.flat
def estimators(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    policy: Annotated[
        str | None,
        typer.Option(
            help="The policy, in the forms of --base. Default: proportional to sqrt(p) e^r.", show_default=False
        ),
    ] = None,
    group: Annotated[int, typer.Option(help="Samples per group, at least 2.")] = 4,
    k: Annotated[int | None, typer.Option(help="K of pass@K, where rewards are 0 and 1. Default 2.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Show bias and variance of KL terms, advantages and token aggregations, over every possible group of samples.

    Without flags: the task reward on the five default outcomes with lengths 2,6,3,9,4.
    """
    spec = chosen.build(default="task-reward")

    from sharpen.theory.estimators.report import estimator_report

    if outcomes.base is None and outcomes.length is None:
        outcomes = replace(outcomes, length=DEFAULT_LENGTH)
    problem = outcomes.build()
    report = estimator_report(spec, problem, _policy(policy), group, 2 if k is None else k)
    given, found, decided = report.setting, report.estimates, report.claims
    options.only_where(bool(report.ascents), "an objective with a task reward of 0 and 1 and groups of at most 64", k=k)
    if json_output:
        import json

        ascended = [_ascent_as_json(ascent) for ascent in report.ascents]
        say(json.dumps(_as_json(given, found, decided) | {"ascents": ascended}, allow_nan=False))
    else:
        _print_tables(spec, given, found, decided)
        _print_ascents(given, report.ascents)


def _policy(text: str | None) -> FloatArray | None:
    """Return the policy that the text names, or None for the default one."""
    from sharpen.objective import InputError
    from sharpen.theory.core.problem import parse_base

    if text is None:
        return None
    try:
        return parse_base(text)
    except InputError as error:
        raise InputError("policy", error.value, error.allowed) from error


def _as_json(given: Setting, found: tuple[Estimate, ...], decided: tuple[Claim, ...]) -> dict[str, Any]:
    return {
        "objective": given.objective.to_dict(),
        "base": given.problem.base.tolist(),
        "reward": given.problem.reward.tolist(),
        "length": given.problem.length.tolist(),
        "policy": given.policy.tolist(),
        "group": given.groups.size,
        "multisets": len(given.groups.probability),
        "kl_gradient": found[0].target.tolist(),
        "objective_gradient": found[-1].target.tolist(),
        "estimators": [
            {
                "name": estimate.name,
                "placement": estimate.placement,
                "target": estimate.about,
                "expectation": estimate.expectation.tolist(),
                "bias": estimate.bias.tolist(),
                "bias_norm": estimate.bias_norm,
                "cosine": estimate.cosine,
                "scale": estimate.scale,
                "variance": estimate.variance,
                "variances": estimate.covariance.diagonal().tolist(),
                "unbiased": estimate.unbiased,
                "proportional": estimate.proportional,
            }
            for estimate in found
        ],
        "claims": [
            {"source": claim.source, "claim": claim.claim, "confirmed": claim.confirmed, "numbers": claim.numbers}
            for claim in decided
        ],
    }


def _print_tables(
    objective: Objective, given: Setting, found: tuple[Estimate, ...], decided: tuple[Claim, ...]
) -> None:
    console = terminal.plain_console()
    terminal.introduce(
        "How far what a trainer computes from a group of samples is from the true gradient: KL terms and advantages, "
        "exactly. |bias| 0 and cosine 1: right on average; a scale other than 1 acts like another learning rate; "
        "variance: of one group's gradient, summed over the logits."
    )
    n, size = given.problem.n, given.groups.size
    console.print(f"{objective.regime}, groups of {size} from {n} outcomes, all {n}^{size} of them")
    table = terminal.plain_table()
    for name in ("estimator", "placed in", "|bias|", "cosine", "scale", "variance", "bias is"):
        left = name in ("estimator", "placed in", "bias is")
        table.add_column(name, no_wrap=True, justify="left" if left else "right")
    previous = found[0].placement
    for estimate in found:
        if estimate.placement != previous and estimate.name == "reinforce":
            table.add_section()
        previous = estimate.placement
        table.add_row(
            estimate.name,
            estimate.placement,
            "0" if estimate.unbiased else f"{estimate.bias_norm:.4f}",
            "-" if estimate.cosine is None else f"{estimate.cosine:.4f}",
            "-" if estimate.scale is None else f"{0.0 if estimate.is_zero else estimate.scale:.4f}",
            f"{estimate.variance:.4g}",
            _bias_in_words(estimate),
        )
    console.print(table)
    for claim in decided:
        console.print(f"{VERDICTS[claim.confirmed]:<9} {claim.source}: {claim.claim}")


def _ascent_as_json(ascent: Ascent) -> dict[str, Any]:
    estimate = ascent.estimate
    return {
        "name": ascent.name,
        "ascends": ascent.utility,
        "times": ascent.scale,
        "polynomial": ascent.polynomial.tolist(),
        "target": ascent.target,
        "expectation": estimate.expectation.tolist(),
        "bias_norm": estimate.bias_norm,
        "scale": estimate.scale,
        "variance": estimate.variance,
        "unbiased": estimate.unbiased,
    }


def _print_ascents(given: Setting, found: tuple[Ascent, ...]) -> None:
    if not found:
        return
    console = terminal.plain_console()
    success = given.policy @ given.problem.reward
    console.print(f"\nof the success rate, {success:.4f} here, each ascends")
    table = terminal.plain_table()
    for name in ("advantage", "ascends", "times", "named after", "slope of that", "variance"):
        left = name in ("advantage", "ascends", "named after")
        table.add_column(name, no_wrap=True, justify="left" if left else "right")
    for ascent in found:
        scale = ascent.estimate.scale
        table.add_row(
            ascent.name,
            ascent.utility,
            "-" if ascent.utility == "its own" else f"{ascent.scale:.4f}",
            ascent.target,
            "-" if scale is None else f"{scale:.4f}",
            f"{ascent.estimate.variance:.4g}",
        )
    console.print(table)
    console.print("slope of that: of the mean update, over that of the utility it is named after")


def _bias_in_words(estimate: Estimate) -> str:
    if estimate.unbiased:
        return "none"
    if estimate.is_zero:
        return "zero mean"
    return "scale only" if estimate.proportional else "direction"
