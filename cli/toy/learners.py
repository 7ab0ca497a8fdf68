"""``sharpen toy learners``: what each sampled learner ascends, whether it gets there, how fast its entropy goes."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import plain_console, say

if TYPE_CHECKING:
    from sharpen.toy.studies.family import Found
    from sharpen.toy.studies.findings_core import Interval


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("learners")(learners)


def learners(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="rloo, maxrl, …, 'rloo, log': rows of docs/toy-learners.md. Default: all."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each.")] = 32,
    out: Annotated[
        Path, typer.Option(help="Folder of the sweeps; the same command continues it, and draws learners.png there.")
    ] = Path("runs/learners"),
    json_output: options.JsonOutput = False,
) -> None:
    """Compare the sampled learners on one problem: the function of the success rate that each ascends, and its runs."""
    from rich.progress import Progress

    from sharpen.figures.toy.learners import plot_learners
    from sharpen.toy.dynamics.cores import use_every_core
    from sharpen.toy.studies.family import MEMBERS, family

    use_every_core()
    with Progress(console=plain_console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task("", total=None)
        found = family(
            names or [member.name for member in MEMBERS],
            out,
            seeds=seeds,
            progress=lambda name, done, total: bars.update(bar, description=name, completed=done, total=total),
        )
    report = as_json(found, seeds)
    figure = out / "learners.png"
    plot_learners(report["learners"], figure)
    if json_output:
        import json

        say(json.dumps(report, allow_nan=False))
        return
    _print(found)
    say(f"figure: {figure}")


def as_json(found: list[Found], seeds: int) -> dict[str, Any]:
    """Return the command's JSON object; updates that were never reached are null."""
    from sharpen.objective.storage.runfolder import provenance

    rows = []
    for row in found:
        told = row._asdict() | {"member": None, "name": row.member.name, "utility": row.member.utility}
        told |= {"learner": row.member.learner, "step_size": row.member.step_size, "kl": row.member.kl}
        del told["member"]
        rows.append(
            {name: _finite(value) if name in ("passed", "collapsed") else value for name, value in told.items()}
        )
    return {key: provenance()[key] for key in ("command", "commit")} | {"seeds": seeds, "learners": rows}


def _finite(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [x if math.isfinite(x) else None for x in interval]


HEADINGS = ("learner", "ascends", "slope", "variance", "missing", "0.9 after", "entropy", "within", "collapse")


def cells(row: dict[str, Any]) -> list[str]:
    """Return the texts of a row of the table, from the command's JSON.

    Example:
        >>> cells({"name": "x", "ascends": "log", "slope": 0.5, "variance": 0.25, "missing": [0.001, 0, 0.002],
        ...        "passed": [None, 5, None], "entropy": None, "within": None, "collapsed": None})
        ['x', 'log', '0.500', '0.250', '0.001', 'never', '-', '-', '-']
    """
    return [
        row["name"],
        row["ascends"],
        *(_number(row[name]) for name in ("slope", "variance")),
        _number(row["missing"][0]),
        _updates(row["passed"]),
        *(_number(None if row[name] is None else row[name][0]) for name in ("entropy", "within")),
        _updates(row["collapsed"]),
    ]


def _number(x: float | None) -> str:
    return "-" if x is None else f"{round(x, 3) + 0.0:.3f}"  # no -0


def _updates(interval: list[float | None] | None) -> str:
    if interval is None:
        return "-"
    return "never" if interval[0] is None else f"{interval[0]:g}"


def _print(found: list[Found]) -> None:
    lines = terminal.plain_table()
    for heading in HEADINGS:
        lines.add_column(heading, justify="left" if heading in ("learner", "ascends") else "right")
    for row in as_json(found, 0)["learners"]:
        lines.add_row(*cells(row))
    console = terminal.plain_console()
    console.print(lines)
    console.print(
        "slope: mean update over the gradient of the utility, at the base; variance: of one group's gradient there"
    )
    console.print("missing: share of KL(base‖π*) left after the run with a KL")
    console.print(
        "task reward alone: updates until E[r] is 0.9, share of the entropy left there, KL within right answers,"
    )
    console.print("updates until the entropy is below a tenth of the base's; medians over seeds")
