"""``sharpen toy target``: when sampled learners reach p^alpha, and what it costs."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import plain_console, say

if TYPE_CHECKING:
    from sharpen.toy.studies.findings_core import Interval
    from sharpen.toy.studies.target import Reached
    from sharpen.toy.studies.target_slope import SlopeRow

SLOPE = "slope"


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("target")(target)


def target(
    names: Annotated[
        list[str] | None, typer.Argument(help="learners, alpha, outcomes, length, slope. Default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs that are reported, beside 16 that choose the step size.")] = 64,
    within: Annotated[
        float | None,
        typer.Option(help="Share of KL(p || p^alpha) that may be missing. Default 0.01.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the sweeps; the same command continues it. Default runs/target.", show_default=False
        ),
    ] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Measure when sampled learners reach p^alpha: which learner, and how updates grow with alpha, n and length.

    slope shows why effective alpha can stay near 1 while the objective rises.
    """
    from sharpen.objective import InputError
    from sharpen.toy.studies.target import STUDIES, WITHIN

    chosen = names or [*STUDIES, SLOPE]
    for name in chosen:  # before anything is run
        if name not in (*STUDIES, SLOPE):
            raise InputError("study", name, ", ".join((*STUDIES, SLOPE)))
    options.only_where(chosen != [SLOPE], "a study of sweeps, not slope alone", within=within, out=out)
    within = WITHIN if within is None else within
    found = _run(chosen, Path("runs/target") if out is None else out, seeds, within)
    if json_output:
        import json

        say(json.dumps(as_json(found, seeds, within), allow_nan=False))
        return
    for name, rows in found.items():
        if name == SLOPE:
            _print_slope(rows)
        else:
            _print_study(name, rows, within)


def _run(names: list[str], out: Path, seeds: int, within: float) -> dict[str, list[Any]]:
    from rich.progress import Progress

    from sharpen.toy.dynamics.cores import use_every_core
    from sharpen.toy.studies.target import study
    from sharpen.toy.studies.target_slope import accounts

    use_every_core()
    found: dict[str, list[Any]] = {}
    with Progress(console=plain_console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        for name in names:
            bar = bars.add_task(name, total=None)

            def report(cell: str, done: int = 0, total: int | None = None, bar: Any = bar, name: str = name) -> None:
                bars.update(bar, description=f"{name}: {cell}", completed=done, total=total)

            found[name] = (
                accounts(seeds, report)
                if name == SLOPE
                else study(name, out, seeds=seeds, within=within, progress=report)
            )
    return found


def as_json(found: dict[str, list[Any]], seeds: int, within: float) -> dict[str, Any]:
    """Return the command's JSON object; updates that were never reached are null."""
    from sharpen.objective.storage.runfolder import provenance
    from sharpen.toy.studies.target import exponent

    report: dict[str, Any] = {key: provenance()[key] for key in ("command", "commit")}
    report |= {"seeds": seeds, "within": within}
    for name, rows in found.items():
        if name == SLOPE:
            report[name] = [row._asdict() for row in rows]
            continue
        report[name] = {"rows": [_row(row) for row in rows], "exponent": exponent(rows)}
    return report


def _row(row: Reached) -> dict[str, Any]:
    return {
        "name": row.cell.name,
        "learner": row.cell.learner,
        "step_size": row.step_size,
        "samples_per_update": row.samples,
        "reached": row.share,
        "updates": _finite(row.updates),
        "samples": _finite([x * row.samples for x in row.updates]) if row.samples else None,
        "effective_alpha": row.effective_alpha,
        "missing": row.missing,
    }


def _finite(numbers: Any) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in numbers]


def _print_study(name: str, rows: list[Reached], within: float) -> None:
    from sharpen.toy.studies.target import exponent

    console = terminal.plain_console()
    lines = terminal.plain_table()
    for heading in (name, "step", "reached", "updates", "samples", "alpha_eff at the end"):
        lines.add_column(heading, justify="left" if heading == name else "right", no_wrap=True)
    for row in rows:
        share = f"{row.share.mean:.2f}" if row.samples == 0 else f"{row.share.low:.2f}-{row.share.high:.2f}"
        samples = f"{row.updates.mean * row.samples:,.0f}" if row.samples and math.isfinite(row.updates.mean) else "-"
        lines.add_row(row.cell.name, f"{row.step_size:g}", share, _updates(row.updates), samples, _alpha(row))
    terminal.introduce(
        f"How many updates learners need until their policy is p^alpha, against {name}. alpha_eff: the exponent of the "
        "base that the policy comes closest to."
    )
    console.print(lines)
    if (slope := exponent(rows)) is not None:
        console.print(f"updates grow like {name}^{slope.mean:.2f} [{slope.low:.2f}, {slope.high:.2f}]")
    console.print(f"reached: KL to p^alpha stays below {within:g} of its start, alpha_eff within 5 %; median updates")


def _updates(updates: Interval) -> str:
    if not math.isfinite(updates.mean):
        return "-"
    if updates.low == updates.high:
        return f"{updates.mean:g}"
    high = f"{updates.high:g}" if math.isfinite(updates.high) else "never"
    return f"{updates.mean:g} [{updates.low:g}, {high}]"


def _alpha(row: Reached) -> str:
    mean, low, high = row.effective_alpha
    return f"{mean:.3f}" if row.samples == 0 else f"{mean:.3f} ±{(high - low) / 2:.3f}"


def _print_slope(rows: list[SlopeRow]) -> None:
    console = terminal.plain_console()
    lines = terminal.plain_table()
    for heading in ("policy", "gain, nats", "of possible", "alpha_eff", "1st order", "in kinds", "E[r]"):
        lines.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for row in rows:
        inside = "-" if row.within is None else f"{row.within.mean:.3f}"
        reward = "-" if row.within is None else f"{row.reward_base:.3f} to {row.reward.mean:.3f}"
        lines.add_row(
            row.name,
            f"{row.gain.mean:.3f}",
            f"{row.gained.mean:.3f}",
            f"{row.effective_alpha.mean:.3f} ±{(row.effective_alpha.high - row.effective_alpha.low) / 2:.3f}",
            f"{row.predicted.mean:.3f}",
            inside,
            reward,
        )
    terminal.introduce(
        "How sharp a policy is when only a part of the possible gain has been made. gain: of E[log p]; alpha_eff: the "
        "exponent of the base that the policy comes closest to; E[r]: from the base to the end."
    )
    console.print(lines)
    console.print("RLOO aiming at alpha 4. 1st order: 1 + gain / ((alpha - 1) Var log p). In kinds: slope within them")
