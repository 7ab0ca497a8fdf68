"""``sharpen theory derive``: every result of the theory, stated, derived from the objective and checked, now."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import plain_console, say

if TYPE_CHECKING:
    from sharpen.theory.proofs.result import Result, Step

REFUTED = 1  # exit status
WIDEST = 100  # columns of a paragraph


def register(app: typer.Typer) -> None:
    """Add the command to the theory group."""
    app.command("derive")(derive)


@options.flat
def derive(
    results: Annotated[
        list[str] | None, typer.Argument(help="T1 ... T26, as many as wanted. Default: all.", show_default=False)
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Print every derivation, step by step.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX document on stdout.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained HTML page, formulas as MathML.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random problems, at least 0.")] = 0,
    json_output: options.JsonOutput = False,
) -> None:
    """State each result of the theory, derive it from the objective, and check every step.

    Symbolically for any number of outcomes where SymPy can, else over finitely many cases; then on random problems
    against an independent calculation. Prints a line for each result, and the steps that failed. The exit status is 1
    if a result does not hold.
    """
    from sharpen.objective import InputError
    from sharpen.objective.storage import files
    from sharpen.theory.proofs import documents
    from sharpen.theory.proofs.catalogue import select

    if latex and (json_output or full):
        raise InputError("latex", True, "one of --latex, --full and --json")
    if full and json_output:
        raise InputError("full", True, "one of --latex, --full and --json")
    if seed < 0:
        raise InputError("seed", seed, "a whole number of at least 0")
    names = select(results or ())
    if html is not None:
        _check_writable(html)
    found = _derive_all(names, seed)
    if html is not None:
        files.write(html, documents.as_html(found), "html")
    if json_output:
        import json

        say(json.dumps({"results": documents.as_json(found), "seed": seed}, allow_nan=False))
    elif latex:
        say(documents.as_latex(found), end="")
    else:
        _print_results(found, full, html)
    if not all(result.holds for result in found):
        raise typer.Exit(REFUTED)


def _check_writable(path: Path) -> None:
    """Refuse a folder or a place where nothing can be made, before the work and not after it."""
    import os

    from sharpen.objective import InputError

    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not parent.is_dir() or not os.access(path if path.exists() else parent, os.W_OK):
        raise InputError("html", str(path), "a file in a folder that can be written")


def _derive_all(names: list[str], seed: int) -> list[Result]:
    """Derive the results one after the other, with a bar on a terminal's stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from sharpen.theory.proofs.catalogue import theorem

    found = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = plain_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task("", total=len(names))
        for name in names:
            bars.update(bar, description=f"deriving {name}")
            found.append(theorem(name).derive(seed=seed))
            bars.advance(bar)
    return found


def _print_results(found: list[Result], full: bool, html: Path | None) -> None:
    from sharpen.theory.proofs.documents import number, verdict

    terminal.introduce(
        "Whether each result of the theory holds, derived from the objective just now. method: how its steps were "
        "checked; error: the largest difference from an independent calculation."
    )
    console = terminal.plain_console()
    width = min(console.width, WIDEST)
    if full:
        for result in found:
            say("\n".join(_lines(result, width)), end="\n\n")
    table = terminal.plain_table()
    for name in ("", "result", "verdict", "method", "steps", "error"):
        table.add_column(name, no_wrap=name != "result", justify="right" if name in ("steps", "error") else "left")
    for result in found:
        steps = str(len(result.steps))
        table.add_row(result.id, result.title, verdict(result.holds), result.method, steps, number(result.error))
    console.print(table)
    for result in () if full else found:
        for i, step in enumerate(result.steps, start=1):
            if not step.holds:
                say("\n".join([f"{result.id}, step {i}:", *_step_lines(i, step, width)]))
    console.print(f"{sum(result.holds for result in found)} of {len(found)} hold")
    if not full:
        console.print("--full prints the derivations, --html FILE and --latex write them")
    if html is not None:
        console.print(f"wrote {html}", soft_wrap=True)


def _lines(result: Result, width: int) -> list[str]:
    """Return a result's derivation as lines of text."""
    from sharpen.theory.proofs.documents import summary, verdict

    lines = [f"{result.id}  {result.title}", *_wrapped(result.statement, width, "    "), ""]
    for i, step in enumerate(result.steps, start=1):
        lines += _step_lines(i, step, width)
    return [*lines, f"{result.id}  {verdict(result.holds)}: {summary(result)}"]


def _step_lines(place: int, step: Step, width: int) -> list[str]:
    from sharpen.theory.proofs.documents import covers, verdict
    from sharpen.theory.proofs.printers import to_line

    given = ", ".join(to_line(each) for each in step.assuming)
    check = f"{verdict(step.holds)} ({covers(step)}{f'; assuming {given}' if given else ''})"
    return [
        *_wrapped(step.text, width, "    ", first=f"{place:>2}. "),
        *_wrapped(to_line(step.shown), width, "          ", first="        "),
        *(line for each in step.where for line in _wrapped(f"with {to_line(each)}", width, "          ", "        ")),
        *_wrapped(check, width, "    "),
    ]


def _wrapped(text: str, width: int, indent: str, first: str | None = None) -> list[str]:
    """Return lines of at most ``width`` columns; only a word longer than that, a formula, is cut."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
