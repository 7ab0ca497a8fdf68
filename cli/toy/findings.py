"""``sharpen toy findings``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import plain_console, say

if TYPE_CHECKING:
    from sharpen.toy.studies.findings import Verdict


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("findings")(findings)


def findings(
    names: Annotated[list[str] | None, typer.Argument(help="mode, support, self-sharpening, … Default: all.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each sampled setting.")] = 64,
    out: Annotated[Path, typer.Option(help="Folder of the sweeps.")] = Path("runs/findings"),
    json_output: options.JsonOutput = False,
) -> None:
    """Test what the toy is said to show, each statement on its own sweeps, with intervals over seeds."""
    from rich.progress import Progress

    from sharpen.toy.dynamics.cores import use_every_core
    from sharpen.toy.studies.findings import FINDINGS, find

    use_every_core()
    said: dict[str, Verdict] = {}
    with Progress(console=plain_console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        for name in names or list(FINDINGS):
            bar = bars.add_task(name, total=None)
            said[name] = find(
                name,
                out,
                seeds=seeds,
                progress=lambda done, total, bar=bar: bars.update(bar, completed=done, total=total),
            )
    statements = {name: FINDINGS[name].statement for name in said}
    if json_output:
        import json

        from sharpen.objective.storage.runfolder import provenance

        origin = {key: provenance()[key] for key in ("command", "commit")}
        rows = [
            {"id": name, "statement": statements[name], "holds": bool(v.holds), "numbers": v.numbers}
            for name, v in said.items()
        ]
        say(json.dumps({**origin, "seeds": seeds, "findings": rows}, allow_nan=False))
        return
    console = terminal.plain_console()
    terminal.introduce("Whether each statement about the toy holds on its own sweeps; intervals are 95 % over seeds.")
    for name, verdict in said.items():
        console.print(f"{name}: {'supported' if verdict.holds else 'NOT supported'}: {statements[name]}")
        for title, (mean, low, high) in verdict.numbers.items():
            console.print(f"  {title}: {mean:.4g}" + (f" [{low:.4g}, {high:.4g}]" if low < high else ""))
