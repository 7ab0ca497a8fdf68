"""``sharpen figures``: figures from finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpen.cli.shared.terminal import say

app = typer.Typer(no_args_is_help=True, help="Figures from finished runs.")


@app.callback()
def group() -> None:
    """Figures from finished runs."""


@app.command()
def backends(
    toy: Annotated[Path, typer.Option(help="Run folder of sharpen toy simulate.")],
    llm: Annotated[list[Path], typer.Option(help="Run folder of sharpen llm train; repeat for several.")],
    out: Annotated[Path, typer.Option(help="A .png, .pdf or .svg file.")] = Path("runs/three-backends.png"),
) -> None:
    """Draw theory, toy and language model side by side, and say which of the paper's claims their numbers bear out."""
    from sharpen.figures.llm.backends import plot_backends

    for claim in plot_backends(toy, llm, out):
        say(f"{claim.backend:7} {claim.statement}: {'yes' if claim.holds else 'no'}")
    say(f"figure: {out}")
