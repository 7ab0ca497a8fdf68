"""``sharpen paper``: the paper's experiments, declared, computed where they are missing, and reported."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.errors import fail
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.paper_repro.grids.plan import Run
    from sharpen.paper_repro.grids.store import Store

app = typer.Typer(no_args_is_help=True, help="The paper, regenerated: experiments, figures, verdicts.")

ScaleOption = Annotated[
    str, typer.Option(help="embedded, dial (four base models), delta (five), real (SmolLM2), or paper (on GPUs).")
]
ResultsOption = Annotated[Path | None, typer.Option(help="Folder of results.", rich_help_panel="Folders")]
WorkOption = Annotated[Path | None, typer.Option(help="Folder of unfinished work.", rich_help_panel="Folders")]
GridOption = Annotated[Path | None, typer.Option(help="Another grid of experiments (YAML).", rich_help_panel="Folders")]


@app.callback()
def group() -> None:
    """The paper, regenerated: experiments, figures, verdicts."""


@app.command("list")
def list_(
    scale: Annotated[str | None, typer.Option(help="Only this scale: embedded, dial, delta, real or paper.")] = None,
    runs: Annotated[bool, typer.Option("--runs", help="One line per run instead of one per experiment.")] = False,
    results: ResultsOption = None,
    work: WorkOption = None,
    grid: GridOption = None,
    json_output: options.JsonOutput = False,
) -> None:
    """List the experiments: what they compute, which claim they test, how much of them is done."""
    from sharpen.paper_repro.grids.grid import SCALES, load_grid
    from sharpen.paper_repro.grids.overview import experiments, run_rows

    grids = {name: load_grid(grid, name) for name in ([scale] if scale is not None else SCALES)}
    scales = [name for name in grids if scale is not None or grids[name].of_scale(name)]
    rows = [
        row
        for name in scales
        for row in (run_rows if runs else experiments)(grids[name], name, _store(name, results, work, len(scales)))
    ]
    if json_output:
        say(json.dumps({"runs" if runs else "experiments": rows}))
        return
    columns = ("id", "status", "arm", "seed") if runs else ("id", "scale", "status", "runs", "title")
    _print_table(rows, columns)


@app.command()
def status(
    scale: ScaleOption = "embedded",
    results: ResultsOption = None,
    work: WorkOption = None,
    grid: GridOption = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Say what is done, missing, out of date, running or failed, and what the rest would take."""
    from sharpen.paper_repro.grids.grid import load_grid
    from sharpen.paper_repro.grids.overview import standing
    from sharpen.paper_repro.grids.store import open_store

    store = open_store(scale, results, work)
    found = standing(load_grid(grid, scale), scale, store)
    if json_output:
        say(json.dumps(found))
        return
    say(f"{scale}: {found['done']} of {found['total']} runs are done ({store.results})")
    for state, names in found["states"].items():
        if state != "done":
            shown = ", ".join(names[:6]) + (f", and {len(names) - 6} more" if len(names) > 6 else "")
            say(f"  {state}: {len(names)}: {shown}")
    if found["seconds_left"]:
        say(f"  the rest takes about {duration(found['seconds_left'])} on one core")


@app.command()
def run(
    scale: ScaleOption = "embedded",
    budget: Annotated[str | None, typer.Option(help="Stop after so long: 90s, 45m, 8h. Default: no limit.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time on this machine, one core each.", show_default="1")
    ] = None,
    experiment: Annotated[list[str] | None, typer.Option(help="Only this experiment; repeatable.")] = None,
    run: Annotated[list[str] | None, typer.Option(help="Only this run, or arm; repeatable.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print each run that would be computed: settings, tokens, memory.")
    ] = False,
    ray: Annotated[str | None, typer.Option(help="Compute on the Ray cluster at this address, or local.")] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Print a SLURM array script instead.")] = False,
    results: ResultsOption = None,
    work: WorkOption = None,
    grid: GridOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="With --dry-run: one JSON object.")] = False,
) -> None:
    """Compute the runs that are missing or out of date; an interrupted one continues.

    A budget is spent in the order of the grid, by a cost model that earlier results correct.
    """
    from sharpen.paper_repro.grids.grid import load_grid
    from sharpen.paper_repro.grids.plan import CostModel, choose, expand, within_budget
    from sharpen.paper_repro.grids.store import open_store

    for other, value in (("ray", ray), ("slurm", slurm)):
        options.refuse_with("jobs", jobs, other, value)
        options.refuse_with("dry-run", dry_run, other, value)
    options.refuse_with("ray", ray, "slurm", slurm)
    options.refuse_without("json", json_output, "dry-run", dry_run)
    seconds = parse_duration(budget) if budget is not None else None
    jobs = jobs if jobs is not None else 1
    declared = load_grid(grid, scale)
    store = open_store(scale, results, work)
    runs = choose(expand(declared, scale), run or [], experiment or [])
    cost = CostModel(declared.rates, store.everything())
    todo = [one for one in runs if store.state(one) != "done"]
    if not todo:
        say(f"nothing to do: all {len(runs)} runs are done and up to date ({store.results})", file=sys.stderr)
        if json_output:
            say(json.dumps({"runs": []}))
        return
    chosen = within_budget(todo, cost, seconds, jobs)
    if slurm:
        _print_slurm(chosen, results, work, grid)
        return
    spent = (
        "" if scale == "paper" else f", about {duration(sum(map(cost.seconds, chosen)) / jobs)} with {jobs} at a time"
    )
    verb = "would compute" if dry_run else "computing"
    say(
        f"{len(runs) - len(todo)} of {len(runs)} runs are done; {verb} {len(chosen)} of {len(todo)}{spent}",
        file=sys.stderr,
    )
    if dry_run:
        _print_plan(chosen, cost, json_output)
    else:
        _compute(chosen, store, cost, jobs, seconds, ray)


@app.command()
def report(
    scale: ScaleOption = "embedded",
    out: Annotated[Path, typer.Option(help="The HTML page.")] = Path("runs/paper/report.html"),
    folder: Annotated[
        Path | None, typer.Option(help="For figures, tables and verdicts; default: report/ beside the results.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option(help="Also copy every figure's PNG into this folder.")] = None,
    results: ResultsOption = None,
    work: WorkOption = None,
    grid: GridOption = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Draw the figures, write the tables, judge the claims, and put all of it into one HTML page."""
    from sharpen.paper_repro.grids.grid import load_grid
    from sharpen.paper_repro.grids.plan import expand
    from sharpen.paper_repro.grids.store import open_store
    from sharpen.paper_repro.report.build import write_report

    declared = load_grid(grid, scale)
    store = open_store(scale, results, work)
    written = write_report(
        declared, expand(declared, scale), store, page=out, folder=folder, gallery=gallery, declared=grid
    )
    if json_output:
        verdicts = [verdict.to_dict() for verdict in written.verdicts]
        say(
            json.dumps({"page": str(out), "figures": written.figures, "missing": written.missing, "verdicts": verdicts})
        )
        return
    for verdict in written.verdicts:
        say(f"{verdict.outcome:12} {verdict.claim}")
    for name, what in written.missing.items():
        say(f"not drawn: {name} (needs {what})", file=sys.stderr)
    say(f"{written.results} results, {len(written.figures)} figures: {written.folder}\npage: {out}")


@app.command()
def verify(
    scale: ScaleOption = "embedded",
    sample: Annotated[
        int | None, typer.Option(min=1, help="How many results of each kind to recompute.", show_default="1")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draw.", min=0, max=2**31 - 1, show_default="0")] = None,
    run: Annotated[list[str] | None, typer.Option(help="This run, or arm, instead of a draw; repeatable.")] = None,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Keep results of older code where a kind's recomputed ones are identical."),
    ] = False,
    results: ResultsOption = None,
    work: WorkOption = None,
    grid: GridOption = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Recompute a sample of the results from nothing and compare number by number.

    Exit status 1 if a result is not even close (pass@1 further than 0.1 away for a model, any number in theory and
    toy), or if the study's rules are not known to be older than its runs: then there is no verdict.
    """
    from sharpen.paper_repro.analysis.verdict import standing_of
    from sharpen.paper_repro.grids.grid import load_grid
    from sharpen.paper_repro.grids.order import order
    from sharpen.paper_repro.grids.plan import CostModel, choose, expand
    from sharpen.paper_repro.grids.store import open_store
    from sharpen.paper_repro.work.verify import choose_sample
    from sharpen.paper_repro.work.verify import verify as recompute

    options.refuse_with("sample", sample, "run", run or None)
    options.refuse_with("seed", seed, "run", run or None)
    declared = load_grid(grid, scale)
    store = open_store(scale, results, work)
    runs = expand(declared, scale)
    cost = CostModel(declared.rates, store.everything())
    known = store.current(runs)
    found = order(declared, scale, known, grid)
    say(f"verdicts: {standing_of(found)}", file=sys.stderr)
    if run:
        chosen = [one for one in choose(runs, run, []) if one.id in known]
    else:
        chosen = choose_sample(runs, store, cost, sample or 1, seed or 0)
    if not chosen:
        fail(f"results: got {store.results}, allowed: a folder with a result of these runs")
    say(f"recomputing {len(chosen)}, about {duration(sum(map(cost.seconds, chosen)))}", file=sys.stderr)

    def tell(check: Any) -> None:
        verdict = "identical" if check.identical else "same" if check.same else "close" if check.close else "DIFFERENT"
        verdict += "; identical with what its own commit computes here" if check.proof == "older code" else ""
        say(f"{check.run}: {verdict}; largest difference {check.largest:.3g}", file=sys.stderr)

    checks = recompute(chosen, store, adopt=adopt, report=tell, affected=runs)
    if adopt:
        left = sum(store.state(one) == "stale-code" for one in runs)
        say(f"{left} results are still of older code" if left else "no result is of older code", file=sys.stderr)
    if json_output:
        say(json.dumps({"checks": [asdict(check) for check in checks], "rules": asdict(found)}))
    if not all(check.close for check in checks) or (found.rules is not None and not found.registered):
        raise typer.Exit(1)


def _store(scale: str, results: Path | None, work: Path | None, scales: int) -> Store:
    """Return a scale's store; where several are listed, a named folder holds one folder for each."""
    from sharpen.paper_repro.grids.store import open_store

    places = [place / scale if place is not None and scales > 1 else place for place in (results, work)]
    return open_store(scale, *places)


def _compute(chosen: list[Run], store: Store, cost: Any, jobs: int, budget: float | None, ray: str | None) -> None:
    from sharpen.paper_repro.work.pool import run_local, run_on_ray

    progress = _progress(len(chosen))
    if ray is not None:
        failed = run_on_ray(chosen, store, ray, report=progress)
    else:
        failed = run_local(chosen, store, jobs=jobs, cost=cost, budget=budget, report=progress)
    if failed:
        names = ", ".join(one.id for one in failed)
        say(f"error: {len(failed)} runs failed: {names}; tracebacks: {store.work}/*.error", file=sys.stderr)
        raise typer.Exit(1)


def _print_plan(chosen: list[Run], cost: Any, as_json: bool) -> None:
    from sharpen.paper_repro.grids.resources import block, text

    blocks = [block(one, None if one.scale == "paper" else cost.seconds(one)) for one in chosen]
    if as_json:
        say(json.dumps({"runs": blocks}))
        return
    for found in blocks:
        say(f"--- # {found['run']}\n{text(found)}", end="")


def _print_slurm(chosen: list[Run], results: Path | None, work: Path | None, grid: Path | None) -> None:
    from sharpen.paper_repro.work.pool import slurm_scripts

    flags = [("--results", results), ("--work", work), ("--grid", grid)]
    arguments = [word for flag, path in flags if path is not None for word in (flag, str(path.absolute()))]
    say("\n".join(slurm_scripts(chosen, arguments)), end="")


def _print_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    table = terminal.plain_table()
    for name in columns:
        table.add_column(name, justify="right" if name in ("runs", "seed") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(row[name]) for name in columns))
    terminal.plain_console().print(table)


def _progress(total: int) -> Any:
    import time

    began, done = time.monotonic(), 0

    def report(run: Run, event: str) -> None:
        nonlocal done
        done += event != "started"
        spent = duration(time.monotonic() - began)
        say(f"[{spent:>6}] {done:>3}/{total} {event:8} {run.id}", file=sys.stderr, flush=True)

    return report


def parse_duration(text: str) -> float:
    """Return the seconds that ``90``, ``90s``, ``45m`` or ``8h`` mean.

    Raises:
        InputError: it means nothing.
    """
    from sharpen.objective import InputError

    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError("budget", text, "a duration such as 90s, 45m or 8h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def duration(seconds: float) -> str:
    """Return a duration for reading.

    Example:
        >>> duration(61), duration(7300)
        ('61 s', '122 min')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 9000
        else f"{seconds / 3600:.1f} h"
    )
