"""``sharpen theory optimum``: where training ends, its limits, and what a budget of KL to the base buys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.shared.words import weights
from sharpen.cli.theory import known

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem

NAMED_OUTCOMES = 2  # of a policy, in a row of the table
MOST_BEST_OF_N = 10**6  # outcomes up to which best-of-N is solved for a KL, about 10 seconds
MOST_BUDGETS = 1000
NOTHING = 1e-15  # smaller entropies and KLs are rounding
WIDTH = 78  # of a table, less its margins
LIMIT_NAMES = {"beta_inv": "beta_inv -> inf", "alpha": "alpha -> inf", "base": "both -> base"}
FAMILIES = {"power": "power", "best-of-n": "best_of_n", "tilt": "tilt", "answer-power": "answer_power"}
PARAMETERS = {"power": "alpha", "tilt": "beta_inv", "best_of_n": "samples", "answer_power": "alpha"}


POINTS, MOST_NAMED = 17, 10  # of a frontier; of the outcomes of a policy


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("optimum")(optimum)


@options.flat
def optimum(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    problems: known.Problems = None,
    one: known.OneProblem = None,
    kl: Annotated[
        str | None,
        typer.Option(help="Also the best policies at these KLs to the base, nats, a comma list.", show_default=False),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="Points of the Pareto frontier at each KL, in --json and --plot. Default 17.", show_default=False
        ),
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option(
            help="Answer of each outcome, whole numbers, -1 for none: also the optimum that sharpens answers.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            help="List so many of the likeliest outcomes of each policy in --json. Default 10.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw reward against KL and the Pareto frontier to a .png, .pdf or .svg file.")
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compute the optimum: the policy, its face, where natural and softmax gradients end, its limits, KL budgets.

    Without flags: the tempered objective (alpha 2) on five outcomes whose likeliest one is wrong.
    """
    spec = chosen.build(default="tempered")
    known.instead_of(problems, one, outcomes, kl=kl, plot=plot, points=points, answers=answers, top=top)
    if problems is not None:
        known.report_known(spec, known.chosen_of(problems, one), json_output)
        return

    from sharpen.objective import InputError
    from sharpen.theory.optima.frontier import MOST_POINTS

    options.only_where(json_output, "--json", top=top)
    options.only_where(kl is not None and (json_output or plot is not None), "--kl and --json or --plot", points=points)
    top, points = MOST_NAMED if top is None else top, POINTS if points is None else points
    if top < 1:
        raise InputError("top", top, "a whole number >= 1")
    if not 2 <= points <= MOST_POINTS:
        raise InputError("points", points, f"a whole number from 2 to {MOST_POINTS:,}")
    problem, budgets = outcomes.build(spec.length_exponent != 0.0), _budgets(kl)
    labels = None if answers is None else _labels(answers, problem.n)
    report = _report(spec, problem, labels, top)
    report["kl_budgets"] = [_budget(spec, problem, each, labels) for each in budgets]
    if plot is not None:
        from sharpen.figures.theory.optimum import plot_optimum

        plot_optimum(spec, problem, budgets, points, plot, with_best_of_n=problem.n <= MOST_BEST_OF_N // 100)
    if json_output:
        import json

        for budget in report["kl_budgets"]:
            budget["frontier"] = _frontier(spec, problem, budget["kl"], points)
        say(json.dumps(report, allow_nan=False))
    else:
        _print(spec, report)


def _budgets(text: str | None) -> list[float]:
    from sharpen.objective import InputError

    if text is None:
        return []
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError("kl", text, "numbers of nats >= 0 separated by commas") from error
    if len(found) > MOST_BUDGETS:
        raise InputError("kl", f"{len(found)} budgets", f"at most {MOST_BUDGETS}")
    for each in found:
        if not 0.0 <= each < math.inf:
            raise InputError("kl", each, "a finite number of nats >= 0")
    return found


def _labels(text: str, n: int) -> list[int]:
    from sharpen.objective import InputError
    from sharpen.theory.optima.majority import answer_classes

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError("answers", text, "a comma list of whole numbers") from error
    answer_classes(found, n)  # refuses a list that does not fit
    return found


def _report(spec: Objective, problem: Problem, answers: list[int] | None, top: int) -> dict[str, Any]:
    """Return the command's JSON object but for the KL budgets."""
    import numpy as np

    from sharpen.objective import InputError
    from sharpen.theory.core.flow import log_softmax_limit
    from sharpen.theory.optima.limits import limits
    from sharpen.theory.optima.marginal import log_answer_optimum
    from sharpen.theory.optima.optimum import optimum as find

    def row(log_policy: Any) -> dict[str, Any]:
        return _policy(spec, problem, log_policy, top)

    best = find(spec, problem)
    w = spec.coefficients
    frozen = spec.refresh_every is None
    try:
        softmax = None if spec.utility != "identity" else row(log_softmax_limit(spec, problem, problem.base))
    except InputError:  # the flow passes so near a saddle that rounding decides
        softmax = None
    face, has_limits = None, frozen and w.w_h > 0.0 and spec.utility == "identity"
    if frozen and w.w_h == 0.0:
        kept = best.log_probabilities > -np.inf
        face = {"size": best.support_size, "base_mass": math.exp(np.logaddexp.reduce(problem.log_base[kept]))}
    return {
        "objective": spec.to_dict(),
        "regime": spec.regime,
        "coefficients": w._asdict(),
        "n": problem.n,
        "base": row(problem.log_base),
        "optimum": {**row(best.log_probabilities), "unique": best.unique},
        "softmax_gradient": softmax,
        "answer_optimum": None if answers is None else row(log_answer_optimum(spec, problem, answers)),
        "face": face,
        "solutions": _solutions(spec, problem),
        "limits": {name: row(law) for name, law in limits(spec, problem).items()} if has_limits else None,
        "pareto": _hull(spec, problem),
    }


def _solutions(spec: Objective, problem: Problem) -> list[dict[str, Any]] | None:
    """Return every solution of the equation for the success rate; None without a utility or without entropy."""
    from sharpen.theory.optima.utilities import solutions

    if spec.utility == "identity" or spec.coefficients.w_h == 0.0:
        return None
    return [
        {
            "kind": each.kind,
            "success": each.success,
            "log_odds": each.log_odds if math.isfinite(each.log_odds) else None,
            "tilt": each.tilt if math.isfinite(each.tilt) else None,
        }
        for each in solutions(spec, problem)
    ]


def _policy(spec: Objective, problem: Problem, log_policy: Any, top: int) -> dict[str, Any]:
    import numpy as np

    from sharpen.theory.optima.optimum import summarize

    found = summarize(spec, problem, log_policy)
    size = int(np.count_nonzero(log_policy > -np.inf))
    count = min(top, size)
    some = np.argpartition(-log_policy, count - 1)[:count] if count < problem.n else np.arange(problem.n)
    order = some[np.lexsort((some, -log_policy[some]))][:count]
    return {
        "expected_reward": float(found.expected_reward),
        "value": float(found.value),
        "entropy": _no_noise(float(found.entropy)),
        "kl_to_base": _no_noise(float(found.kl_to_base)),
        "support_size": size,
        "outcomes": [
            {"outcome": i, "probability": math.exp(log_policy[i]), "log_probability": float(log_policy[i])}
            for i in order.tolist()
        ],
    }


def _hull(spec: Objective, problem: Problem) -> dict[str, Any] | None:
    """Return the Pareto frontier over all policies; None without a score."""
    from sharpen.theory.optima.frontier import hull

    if spec.normalization == "none":
        return None
    found = hull(spec, problem)
    return {
        "outcomes": found.outcomes.tolist(),
        "expected_reward": found.expected_reward.tolist(),
        "expected_score": found.expected_score.tolist(),
        "exchange": found.exchange.tolist(),
    }


def _no_noise(number: float) -> float:
    return number if number > NOTHING else 0.0


def _budget(spec: Objective, problem: Problem, kl: float, answers: list[int] | None) -> dict[str, Any]:
    """Return the policies at a KL: on the objective's own ray, and of three or four families."""
    from sharpen.theory.optima.best_of_n import compare_at_equal_kl

    rows: dict[str, Any] = {"objective": _own_ray(spec, problem, kl)}
    for name, found in compare_at_equal_kl(problem, kl, answers, problem.n <= MOST_BEST_OF_N).items():
        key = FAMILIES[name]
        rows[key] = found and {PARAMETERS[key]: found.parameter, **_numbers(found)}
    return {"kl": kl, "policies": rows}


def _frontier(spec: Objective, problem: Problem, kl: float, points: int) -> dict[str, Any] | None:
    """Return the Pareto frontier within a KL as columns; None without a score."""
    from sharpen.theory.optima.frontier import frontier

    if spec.normalization == "none":
        return None
    edge = frontier(spec, problem, kl, points)
    names = ("alpha", "beta_inv", "kl", "expected_reward", "expected_score", "log_likelihood")
    return {name: [x if math.isfinite(x) else None for x in getattr(edge, name).tolist()] for name in names}


def _own_ray(spec: Objective, problem: Problem, kl: float) -> dict[str, Any] | None:
    """Return the policy at this KL whose alpha - 1 and beta_inv are in the objective's ratio; None if there is none."""
    from sharpen.theory.optima.frontier import at_kl

    w = spec.coefficients
    if not spec.is_plain:  # its optima are on no ray
        return None
    if spec.refresh_every is None and w.w_r == 0.0 and w.w_p == w.w_h:  # the optimum is the base: a ray of no length
        return None
    found = at_kl(spec, problem, kl)
    return found and {"alpha": found.alpha, "beta_inv": found.beta_inv, **_numbers(found)}


def _numbers(found: Any) -> dict[str, float]:
    return {
        "expected_reward": found.expected_reward,
        "log_likelihood": found.log_likelihood,
        "entropy": _no_noise(found.entropy),
    }


def _print(spec: Objective, report: dict[str, Any]) -> None:
    console = terminal.plain_console()
    table = terminal.number_table(["policy", "E[r]", "J", "H", "KL to base", "outcome:probability"])
    table.columns[5].justify = "left"
    terminal.introduce(
        "The policy that the objective prefers (optimum), beside the base model, the end of softmax gradients and the "
        "objective's limits. E[r]: expected reward; J: the objective's value, H: entropy, KL to base: in nats; "
        "0:0.6 +2: outcome 0 has probability 0.6, two more follow."
    )
    console.print(f"{weights(spec)}; n = {report['n']:,} outcomes")
    rows = {"base": report["base"], "optimum": report["optimum"], "softmax gradient": report["softmax_gradient"]}
    if report["answer_optimum"] is not None:
        rows["answer optimum"] = report["answer_optimum"]
    rows |= {LIMIT_NAMES[name]: row for name, row in (report["limits"] or {}).items()}
    shown = {name: row for name, row in rows.items() if row is not None}
    cells = [[name, *_cells(row)] for name, row in shown.items()]
    titles = [column.header for column in table.columns]
    taken = sum(max(len(line[i]) for line in [titles, *cells]) + 2 for i in range(len(titles) - 1))
    for line, row in zip(cells, shown.values(), strict=True):
        table.add_row(*line, _likeliest(row, WIDTH - taken))
    console.print(table)
    for each in report["solutions"] or []:
        tilt = "" if each["tilt"] is None else f", right answers' odds times {math.exp(min(each['tilt'], 700)):.4g}"
        console.print(f"utility {spec.utility}: {each['kind']} at E[r] = {each['success']:.6g}{tilt}")
    if spec.utility == "identity" and rows["softmax gradient"] is None:
        name = "softmax gradient"
        console.print(f"{name}: not decided, the flow passes too near a saddle")
    if report["face"] is not None:
        size, mass = report["face"]["size"], report["face"]["base_mass"]
        console.print(f"every policy on {size:,} outcome{'s' if size > 1 else ''} of base mass {mass:.4g} is optimal")
    budgets = report["kl_budgets"]
    if len(budgets) == 1:
        _print_budget(budgets[0])
    elif budgets:
        _print_budgets(budgets)


def _print_budget(budget: dict[str, Any]) -> None:
    table = terminal.number_table([f"KL = {budget['kl']:g}", "parameter", "E[r]", "E[log p]", "H"])
    table.columns[1].justify = "left"
    for name, row in budget["policies"].items():
        title = name.replace("_", " ")
        if row is None:
            table.add_row(title, "not reached")
            continue
        shown = (PARAMETERS[name],) if name in PARAMETERS else ("alpha", "beta_inv")
        numbers = (row["expected_reward"], row["log_likelihood"], row["entropy"])
        table.add_row(title, ", ".join(f"{key} {row[key]:.5g}" for key in shown), *(f"{x:.4g}" for x in numbers))
    terminal.plain_console().print(table)


def _print_budgets(budgets: list[dict[str, Any]]) -> None:
    names = list(budgets[0]["policies"])
    table = terminal.number_table(["KL", *(name.replace("_", " ") for name in names)])
    for budget in budgets:
        rows = [budget["policies"][name] for name in names]
        table.add_row(f"{budget['kl']:g}", *("-" if row is None else f"{row['expected_reward']:.4f}" for row in rows))
    console = terminal.plain_console()
    console.print("E[r] at equal KL to the base (- where it is not reached):")
    console.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    numbers = (row[name] for name in ("expected_reward", "value", "entropy", "kl_to_base"))
    return [f"{x if abs(x) > NOTHING else 0.0:.4g}" for x in numbers]


def _likeliest(row: dict[str, Any], width: int) -> str:
    """Return the likeliest outcomes as ``outcome:probability``, as many as fit, and how many more there are."""
    named = []
    for each in row["outcomes"][:NAMED_OUTCOMES]:
        p = each["probability"]
        exponent = math.floor(each["log_probability"] / math.log(10.0))  # also where p underflows
        named.append(f"{each['outcome']}:" + (f"{p:.3f}" if p >= 5e-4 else f"1e{exponent}"))
    for count in range(len(named), 0, -1):
        more = row["support_size"] - count
        text = " ".join(named[:count]) + (f" +{more}" if 0 < more < 10**4 else f" +{more:.0e}" if more else "")
        if len(text) <= width:
            return text
    return named[0]
