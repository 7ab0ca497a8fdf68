"""The command ``sharpen``."""

from __future__ import annotations

import _thread
import os
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sharpen.cli import figures
from sharpen.cli.analysis import app as analysis
from sharpen.cli.cite import cite
from sharpen.cli.doctor import doctor
from sharpen.cli.explore import explore
from sharpen.cli.llm import app as llm
from sharpen.cli.paper import app as paper
from sharpen.cli.schema import schema
from sharpen.cli.shared.errors import BAD_INPUT, INTERRUPTED, describe, describe_usage, details, fail
from sharpen.cli.shared.help import settle
from sharpen.cli.shared.streams import tolerate_any_text
from sharpen.cli.shared.terminal import say
from sharpen.cli.theory import app as theory
from sharpen.cli.toy import app as toy


class Told(TyperGroup):
    """The commands; where Ctrl-C ends one, it says what was kept before typer makes an exit status of it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            for note in getattr(error, "__notes__", ()):
                say(note, file=sys.stderr)
            raise


app = typer.Typer(
    name="sharpen",
    cls=Told,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Does reinforcement learning teach a language model anything that sharpening its own distribution would not?",
)


def _say_version(asked: bool) -> None:
    if asked:
        from sharpen.objective.version import VERSION

        say(f"sharpen {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Does reinforcement learning teach a language model anything that sharpening its own distribution would not?"""


app.add_typer(theory.app, name="theory")
app.add_typer(toy.app, name="toy")
analysis.register(llm.app)
app.add_typer(llm.app, name="llm")
app.add_typer(figures.app, name="figures")
app.add_typer(paper.app, name="paper")
app.command()(doctor)
app.command()(explore)
app.command()(cite)
app.command()(schema)
settle(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input (one line on stderr), 130 interrupted."""
    if arguments is None:  # the process is this command's
        sys.unraisablehook = _interrupt_again
        # Read when torch is imported: its C++ parts, and those of vLLM, lead a run with warnings about NUMA nodes.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    tolerate_any_text()
    _refuse_empty(sys.argv[1:] if arguments is None else arguments)
    try:
        status = tree()(args=arguments, standalone_mode=False)
    except typer.exceptions.TyperException as error:
        message = describe_usage(error)
        if message.strip():
            fail(message)
        status = BAD_INPUT  # a group without a command: typer has printed its help
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        message = describe(error)
        if message is None:
            raise
        fail(message, details(error))
    if status == INTERRUPTED:  # typer's answer to Ctrl-C too
        _end_interrupted()
    sys.exit(status if isinstance(status, int) else 0)


@lru_cache(maxsize=1)
def tree() -> Any:
    """Return the tree of all commands; to make it takes longer than most of them, for whoever calls several."""
    return typer.main.get_command(app)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse a value that is empty, which commands would take for none at all, or that is not text."""
    for place, given in enumerate(arguments):
        named = given.startswith("--") and "=" in given
        flag, _, value = given.partition("=") if named else (arguments[place - 1] if place else "", "", given)
        flag = flag if flag.startswith("--") else ""
        if not value:
            fail(f"{flag or 'argument'}: got '', allowed: a value that is not empty")
        if any("\ud800" <= char <= "\udfff" for char in given):
            fail(f"{flag or 'argument'}: got {value!a}, allowed: text in the encoding of this terminal (LANG)")


def _interrupt_again(unraisable: Any) -> None:
    """Repeat a Ctrl-C that came while a callback of the garbage collector ran (jax has one), where Python drops it."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.1, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _end_interrupted() -> NoReturn:
    say("interrupted", file=sys.stderr)
    if "jax" in sys.modules:
        # XLA's threads may still compute, and taking down the interpreter under them ends in a segmentation fault.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
