"""Help texts from docstrings: paragraphs that a terminal of any width wraps, and summaries that nothing cuts off."""

from __future__ import annotations

import inspect

import typer


def flowing(text: str) -> str:
    r"""Return a docstring with each paragraph on one line.

    Example:
        >>> flowing("Count.\n\nA sentence that\ngoes on.")
        'Count.\n\nA sentence that goes on.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def settle(app: typer.Typer) -> None:
    """Give every command of an app, and of the apps within it, its docstring as help, the first paragraph in lists.

    Typer keeps the line breaks of all paragraphs but the first, which are those of the source and not of the terminal,
    and its list of commands for a page (``typer utils docs``) cuts a summary after 45 characters unless one is given.
    """
    for command in app.registered_commands:
        if command.callback is not None and command.callback.__doc__:
            command.help = flowing(command.callback.__doc__)
            command.short_help = command.help.split("\n\n")[0]
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is not None:
            if isinstance(inner.info.help, str):
                group.short_help = inner.info.help
            settle(inner)
