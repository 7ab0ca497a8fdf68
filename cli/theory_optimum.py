"""``sharpen theory optimum`` and ``sharpen theory response``: where training ends, and how that answers to a dial."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli import options

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.problem import Problem
    from sharpen.theory.response import Curve, Turn, TurningPoint

NAMED_OUTCOMES = 2  # of a policy, in a row of the table
MOST_BEST_OF_N = 10_000  # outcomes up to which best-of-N is solved for a KL, about 3 seconds
MOST_GRID = 100_001
PLOT_POINTS = 201
LIMIT_NAMES = {"beta_inv": "beta_inv -> inf", "alpha": "alpha -> inf", "base": "alpha -> 1, b -> 0"}


def register(app: typer.Typer) -> None:
    """Add the commands to the theory group."""
    app.command("optimum")(optimum)
    app.command("response")(response)


@options.flat
def optimum(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    kl: Annotated[
        float | None, typer.Option(help="Also the best policies with this KL to the base, nats.", show_default=False)
    ] = None,
    points: Annotated[int, typer.Option(help="Points of the Pareto frontier at that KL, in --json and --plot.")] = 17,
    top: Annotated[int, typer.Option(help="List so many of the likeliest outcomes of each policy in --json.")] = 10,
    plot: Annotated[
        Path | None, typer.Option(help="Draw reward against KL and the Pareto frontier to a .png, .pdf or .svg file.")
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compute the optimum: the policy, its face, where natural and softmax gradients end, its limits, KL budgets.

    Without flags: the tempered objective (alpha 2) on five outcomes whose likeliest one is wrong.
    """
    spec = chosen.build(default="tempered")

    from sharpen.objective import InputError

    if top < 1:
        raise InputError("top", top, "a whole number >= 1")
    problem = outcomes.build()
    report = _optimum_report(spec, problem, top)
    report["kl_budget"] = None if kl is None else _budget(spec, problem, kl, points)
    if plot is not None:
        from sharpen.figures.optimum import plot_optimum

        plot_optimum(spec, problem, kl, points, plot, with_best_of_n=problem.n <= MOST_BEST_OF_N)
    if json_output:
        _print_json(report)
    else:
        _print_optimum(spec, report)


def _optimum_report(spec: Objective, problem: Problem, top: int) -> dict[str, Any]:
    """Return the command's JSON object but for the KL budget."""
    import numpy as np

    from sharpen.objective import InputError
    from sharpen.theory.flow import softmax_limit
    from sharpen.theory.limits import limits
    from sharpen.theory.optimum import optimum as find

    def row(log_policy: Any) -> dict[str, Any]:
        return _policy(spec, problem, log_policy, top)

    best = find(spec, problem)
    w = spec.coefficients
    frozen = spec.refresh_every is None
    try:
        with np.errstate(divide="ignore"):
            softmax = row(np.log(softmax_limit(spec, problem, problem.base)))
    except InputError:  # the flow passes so near a saddle that rounding decides
        softmax = None
    face = None
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
        "face": face,
        "limits": {name: row(law) for name, law in limits(spec, problem).items()} if frozen and w.w_h > 0.0 else None,
        "pareto": _hull(spec, problem),
    }


def _policy(spec: Objective, problem: Problem, log_policy: Any, top: int) -> dict[str, Any]:
    import numpy as np

    from sharpen.theory.optimum import summarize

    found = summarize(spec, problem, log_policy)
    size = int(np.count_nonzero(log_policy > -np.inf))
    count = min(top, size)
    some = np.argpartition(-log_policy, count - 1)[:count] if count < problem.n else np.arange(problem.n)
    order = some[np.lexsort((some, -log_policy[some]))][:count]
    return {
        "expected_reward": float(found.expected_reward),
        "value": float(found.value),
        "entropy": max(0.0, float(found.entropy)),
        "kl_to_base": max(0.0, float(found.kl_to_base)),
        "support_size": size,
        "outcomes": [
            {"outcome": i, "probability": math.exp(log_policy[i]), "log_probability": float(log_policy[i])}
            for i in order.tolist()
        ],
    }


def _hull(spec: Objective, problem: Problem) -> dict[str, Any] | None:
    """Return the Pareto frontier over all policies; None without a score."""
    from sharpen.theory.frontier import hull

    if spec.normalization == "none":
        return None
    found = hull(spec, problem)
    return {
        "outcomes": found.outcomes.tolist(),
        "expected_reward": found.expected_reward.tolist(),
        "expected_score": found.expected_score.tolist(),
        "exchange": found.exchange.tolist(),
    }


def _budget(spec: Objective, problem: Problem, kl: float, points: int) -> dict[str, Any]:
    """Return the best policies at a KL: along the objective's own ray, of three families, and the frontier."""
    from sharpen.objective import Objective
    from sharpen.theory.best_of_n import compare_at_equal_kl
    from sharpen.theory.frontier import at_kl, frontier

    normalization = {"normalization": spec.normalization, "weight": spec.weight}
    rays = {"objective": spec, "tilt": Objective(alpha=1.0, beta_inv=1.0)}
    if spec.normalization != "none":
        rays["power"] = Objective.model_validate({"alpha": 2.0, **normalization})
    rows: dict[str, Any] = {"power": None, "best_of_n": None}
    for name, ray in rays.items():
        found = at_kl(ray, problem, kl)
        rows[name] = found and {
            "alpha": found.alpha,
            "beta_inv": found.beta_inv,
            "expected_reward": found.expected_reward,
            "log_likelihood": found.log_likelihood,
            "entropy": max(0.0, found.entropy),
        }
    winner = compare_at_equal_kl(problem, kl)["best-of-n"] if problem.n <= MOST_BEST_OF_N else None
    if winner is not None:
        rows["best_of_n"] = {
            "samples": winner.parameter,
            "expected_reward": winner.expected_reward,
            "log_likelihood": winner.log_likelihood,
            "entropy": max(0.0, winner.entropy),
        }
    names = ("alpha", "beta_inv", "kl", "expected_reward", "expected_score", "log_likelihood")
    edge = None if spec.normalization == "none" else frontier(spec, problem, kl, points)
    columns = edge and {name: _or_null(getattr(edge, name).tolist()) for name in names}
    order = ("objective", "power", "tilt", "best_of_n")
    return {"kl": kl, "policies": {name: rows[name] for name in order}, "frontier": columns}


def _or_null(numbers: list[float]) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in numbers]


def _print_json(report: dict[str, Any]) -> None:
    import json

    print(json.dumps(report, allow_nan=False))


def _print_optimum(spec: Objective, report: dict[str, Any]) -> None:
    console, table = _console(), _table(["policy", "E[r]", "J", "H", "KL to base", "outcome:probability"])
    table.columns[5].justify = "left"
    console.print(_headline(spec) + f", n = {report['n']:,}")
    rows = {"base": report["base"], "optimum": report["optimum"], "softmax gradient": report["softmax_gradient"]}
    rows |= {LIMIT_NAMES[name]: row for name, row in (report["limits"] or {}).items()}
    for name, row in rows.items():
        if row is None:
            table.add_row(name, "not decided: the flow passes near a saddle")
            continue
        numbers = (row["expected_reward"], row["value"], row["entropy"], row["kl_to_base"])
        table.add_row(name, *(f"{x:.4g}" for x in numbers), _likeliest(row))
    console.print(table)
    if report["face"] is not None:
        size, mass = report["face"]["size"], report["face"]["base_mass"]
        console.print(f"every policy on {size:,} outcome{'s' if size > 1 else ''} of base mass {mass:.4g} is optimal")
    if report["kl_budget"] is not None:
        _print_budget(report["kl_budget"])


def _print_budget(budget: dict[str, Any]) -> None:
    table = _table([f"KL = {budget['kl']:g}", "parameter", "E[r]", "E[log p]", "H"])
    table.columns[1].justify = "left"
    for name, row in budget["policies"].items():
        title = name.replace("_", " ")
        if row is None:
            table.add_row(title, "not reached")
            continue
        shown = {"power": ("alpha",), "tilt": ("beta_inv",), "best_of_n": ("samples",)}.get(name, ("alpha", "beta_inv"))
        numbers = (row["expected_reward"], row["log_likelihood"], row["entropy"])
        table.add_row(title, ", ".join(f"{key} {row[key]:.5g}" for key in shown), *(f"{x:.4g}" for x in numbers))
    _console().print(table)


def _likeliest(row: dict[str, Any]) -> str:
    """Return the likeliest outcomes as ``outcome:probability``, and how many more there are."""
    named = []
    for each in row["outcomes"][:NAMED_OUTCOMES]:
        p = each["probability"]
        exponent = math.floor(each["log_probability"] / math.log(10.0))  # also where p underflows
        named.append(f"{each['outcome']}:" + (f"{p:.3f}" if p >= 5e-4 else f"1e{exponent}"))
    more = row["support_size"] - len(named)
    return " ".join(named) + (f" +{more}" if more else "")


@options.flat
def response(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    over: Annotated[str, typer.Option(help="alpha or beta_inv; the other one is the objective's.")] = "alpha",
    low: Annotated[float, typer.Option("--from", help="First value.")] = 0.0,
    high: Annotated[float, typer.Option("--to", help="Last value.")] = 4.0,
    points: Annotated[int, typer.Option(help="Number of values, evenly spaced.")] = 9,
    plot: Annotated[Path | None, typer.Option(help="Draw reward and derivative to a .png, .pdf or .svg file.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compute the optimum's expected reward against alpha or beta_inv, where it turns, when sharpening stops helping.

    Without flags: the tempered objective on five outcomes whose likeliest one is wrong.
    """
    spec = chosen.build(default="tempered")

    import numpy as np

    from sharpen.objective import InputError
    from sharpen.theory.response import Turn, curve, stops_helping, turning_points

    if over not in ("alpha", "beta_inv"):
        raise InputError("over", over, "alpha or beta_inv")
    if not 2 <= points <= MOST_GRID:
        raise InputError("points", points, f"a whole number from 2 to {MOST_GRID:,}")
    if not 0.0 <= low < high < math.inf:
        raise InputError("from, to", [low, high], "0 <= from < to, both finite")
    problem = outcomes.build()
    parameter = "alpha" if over == "alpha" else "beta_inv"
    found = curve(spec, problem, parameter, np.linspace(low, high, points))
    turns: tuple[TurningPoint, ...] = ()
    turn = Turn(None, None)
    if over == "alpha":
        turns, turn = turning_points(spec, problem, low, high), stops_helping(problem, spec)
    base = problem.expected_reward(problem.base)
    if plot is not None:
        from sharpen.figures.optimum import plot_response

        smooth = curve(spec, problem, parameter, np.linspace(low, high, max(points, PLOT_POINTS)))
        plot_response(spec, problem, smooth, turns, turn, plot)
    if json_output:
        _print_json(
            {
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
        )
    else:
        _print_response(spec, found, turns, turn, base)


def _print_response(spec: Objective, found: Curve, turns: tuple[TurningPoint, ...], turn: Turn, base: float) -> None:
    console, table = _console(), _table([found.over, "E[r]", f"dE[r]/d {found.over}"])
    held = f"beta_inv = {spec.beta_inv:g}" if found.over == "alpha" else f"alpha = {spec.alpha:g}"
    console.print(f"E[r] of the optimum against {found.over}, {held}; base {base:.6g}")
    columns = (found.grid.tolist(), found.expected_reward.tolist(), found.derivative.tolist())
    for t, reward, slope in zip(*columns, strict=True):
        table.add_row(f"{t:.6g}", f"{reward:.6g}", f"{slope:.4g}")
    console.print(table)
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


def _headline(spec: Objective) -> str:
    w = spec.coefficients
    moving = "" if spec.refresh_every is None else f", reference {spec.reference}"
    return f"{spec.regime}: w_r = {w.w_r:.4g}, w_p = {w.w_p:.4g}, w_h = {w.w_h:.4g}{moving}"


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def _table(columns: list[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(columns):
        table.add_column(name, no_wrap=True, justify="right" if i else "left")
    return table
