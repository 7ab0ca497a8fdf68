"""``sharpen theory self-sharpening``: training on p^alpha of oneself, round by round."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.counts import count_json, count_text
from sharpen.cli.shared.terminal import say
from sharpen.cli.shared.words import weights

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import FloatArray, Problem
    from sharpen.theory.instability.rounds import Rounds
    from sharpen.theory.instability.selfsharpening import Family

NAMED_OUTCOMES = 2  # of a policy, in a row of the table
SHOWN = 5e-4
MOST_ROUNDS = 1000
MOST_LISTED = 1000  # outcomes up to which --json has the policies


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("self-sharpening")(self_sharpening)


@options.flat
def self_sharpening(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    rounds: Annotated[int, typer.Option(help="Rounds, each trained to the end with the last policy as reference.")] = 6,
    epsilon: Annotated[
        float, typer.Option(help="A policy has collapsed when its likeliest outcome holds at least 1 - epsilon.")
    ] = 1e-6,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the rounds and the probability still lost to a .png, .pdf or .svg file.")
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Refresh the reference with the optimum, round by round: after k rounds of p^alpha the policy is p^(alpha^k).

    Without flags: the tempered objective (alpha 2) on five outcomes whose likeliest one is wrong.
    """
    spec = chosen.build(default="tempered")

    from sharpen.objective import InputError
    from sharpen.theory.instability.rounds import self_sharpening as iterate

    options.only_where(False, "a command that trains: rounds replace the reference here", reference=chosen.reference)
    if not 1 <= rounds <= MOST_ROUNDS:
        raise InputError("rounds", rounds, f"a whole number from 1 to {MOST_ROUNDS}")
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon", epsilon, "a number between 0 and 1")
    problem = outcomes.build(spec.length_exponent != 0.0)
    found = iterate(spec, problem, rounds)
    policies, report = found.log_policies, _report(spec, problem, found, epsilon)
    if plot is not None:
        from sharpen.figures.theory.selfsharpening import plot_rounds

        plot_rounds(spec, problem, policies, plot)
    if json_output:
        import json

        say(json.dumps(report, allow_nan=False))
    else:
        _print(spec, problem, policies, report)


def _report(spec: Objective, problem: Problem, found: Rounds, epsilon: float) -> dict[str, Any]:
    from sharpen.theory.instability.rounds import power_of_a_round
    from sharpen.theory.instability.selfsharpening import collapse, families

    # Without reward and length normalisation a round is the map F, whose fixed points and collapse have closed forms.
    power = power_of_a_round(spec)
    rows = []
    for k, log_policy in enumerate(found.log_policies):
        lost = float(found.log_lost[k])
        effective = None if found.effective_alpha is None else float(found.effective_alpha[k])
        rows.append(
            {
                "round": k,
                "effective_alpha": effective if effective is not None and math.isfinite(effective) else None,
                "expected_reward": float(found.expected_reward[k]),
                "entropy": float(found.entropy[k]),
                "kl_to_base": float(found.kl_to_base[k]),
                "log_lost": lost if math.isfinite(lost) else None,
                "probabilities": None if problem.n > MOST_LISTED else [float(math.exp(x)) for x in log_policy],
            }
        )
    m = int(problem.support.sum())
    end = None if power is None else collapse(problem.log_base[problem.support], power, epsilon)
    return {
        "objective": spec.to_dict(),
        "regime": spec.regime,
        "n": problem.n,
        "rounds": rows,
        "epsilon": epsilon,
        "collapse": end and {"effective_alpha": end.exponent, "rounds": end.rounds, "mass": end.mass},
        "fixed_points": None if power is None else [_family(each) for each in families(power, m)],
    }


def _family(found: Family) -> dict[str, Any]:
    return {
        "class": found.kind,
        "count": count_json(found.count),
        "smallest": found.smallest,
        "largest": found.largest,
        "inside": found.inside,
        "across": found.transversal if math.isfinite(found.transversal) else "inf",
        "continuum": found.continuum,
    }


def _print(spec: Objective, problem: Problem, policies: FloatArray, report: dict[str, Any]) -> None:
    terminal.introduce(
        "What becomes of the policy when the optimum is taken as the next round's base, again and again. alpha_eff: "
        "the policy is base^alpha_eff; E[r]: expected reward; H: entropy, KL to base: in nats; log lost: log of the "
        "mass outside the likeliest outcome; 0:0.6: outcome 0 has probability 0.6."
    )
    console = terminal.plain_console()
    console.print(f"{weights(spec)}; n = {problem.n:,} outcomes")
    table = terminal.plain_table()
    for name in ("round", "alpha_eff", "E[r]", "H", "KL to base", "log lost", "likeliest"):
        left = name in ("round", "likeliest")
        table.add_column(name, no_wrap=True, justify="left" if left else "right")
    for row, log_policy in zip(report["rounds"], policies, strict=True):
        numbers = (row["effective_alpha"], row["expected_reward"], row["entropy"], row["kl_to_base"], row["log_lost"])
        cells = ["-" if x is None else f"{x:.3g}" for x in numbers]
        table.add_row(str(row["round"]), *cells, _likeliest(log_policy))
    console.print(table)
    if report["fixed_points"] is None:
        return
    end = report["collapse"]
    much = f"1 - {report['epsilon']:g}"
    console.print(
        f"the likeliest outcome never holds {much}"
        if end is None
        else f"the likeliest outcome holds {much} at alpha_eff = {end['effective_alpha']:.6g}: {end['rounds']} rounds"
    )
    for each in report["fixed_points"]:
        count = each["count"] if isinstance(each["count"], str) else count_text(each["count"])
        size = f"{each['smallest']}" + (f" to {each['largest']:,}" if each["largest"] > each["smallest"] else "")
        rates = f"Jacobian {each['inside']:g}, towards others {float(each['across']):g}"
        console.print(f"{each['class']}: {count} uniform on {size}; {rates}")


def _likeliest(log_policy: FloatArray) -> str:
    import numpy as np

    order = np.argsort(-log_policy, kind="stable")[:NAMED_OUTCOMES].tolist()
    shown = [(i, math.exp(log_policy[i])) for i in order]
    # The likeliest is named whatever it has; a second one only if its digits show.
    return " ".join(f"{i}:{p:.3f}" if p >= SHOWN else f"{i}:{p:.0e}" for i, p in shown if i == order[0] or p >= SHOWN)
