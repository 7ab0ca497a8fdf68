"""Command-line options that several commands share, as groups of flags.

A command names a group as one parameter, and :func:`flat` shows typer the group's fields in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem

OBJECTIVE, PROBLEM = "Objective", "Problem"  # panels of the help
JsonOutput = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each parameter that is a group of flags replaced by the group's flags.

    Example:
        >>> @flat
        ... def show(chosen: ObjectiveFlags) -> None:
        ...     print(chosen.alpha)
        >>> list(inspect.signature(show).parameters)[:3]
        ['preset', 'objective', 'alpha']
        >>> show(alpha=2.0)
        2.0
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            shown.append(parameter.replace(annotation=hints[name], kind=keyword))
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        shown += [
            inspect.Parameter(field.name, keyword, default=field.default, annotation=kinds[field.name])
            for field in fields(groups[name])
        ]

    @functools.wraps(command)
    def expanded(**flags: Any) -> None:
        for name, kind in groups.items():
            flags[name] = kind(**{field.name: flags.pop(field.name, field.default) for field in fields(kind)})
        command(**flags)

    expanded.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    del expanded.__wrapped__  # type: ignore[attr-defined]  # inspect would look through to the groups
    return expanded


@dataclass(frozen=True)
class ProblemFlags:
    """A finite problem's flags as they were given."""

    base: Annotated[
        str | None,
        typer.Option(
            help="Base: p1,p2,...  zipf:N  uniform:N  dirichlet:N:SEED  or a .npy, .json or .csv file. "
            "log: before a list or a file says that it is of log p. Default 0.40,0.25,0.15,0.12,0.08.",
            rich_help_panel=PROBLEM,
            show_default=False,
        ),
    ] = None
    reward: Annotated[
        str | None,
        typer.Option(
            help="One reward per outcome, in the same forms, or indices of the correct outcomes (1,3 or indices:1,3). "
            "Default: outcomes 1 and 3 are correct.",
            rich_help_panel=PROBLEM,
            show_default=False,
        ),
    ] = None
    length: Annotated[
        str | None,
        typer.Option(
            help="One length per outcome, a list or a file. Default 1.", rich_help_panel=PROBLEM, show_default=False
        ),
    ] = None

    def build(self, reads_length: bool = True) -> Problem:
        """Return the problem.

        Args:
            reads_length: Whether the command reads lengths with the objective that it was given.

        Raises:
            InputError: a text cannot be read, or does not fit the base, or lengths are given that nothing reads.
        """
        from sharpen.theory.core.problem import parse_problem

        problem = parse_problem(self.base, self.reward, self.length)  # a length that is wrong anyway is said to be
        only_where(reads_length, "--normalization mean or weighted_mean, which divide by it", length=self.length)
        return problem


def refuse_without(flag: str, given: object, needed: str, value: object) -> None:
    """Refuse a flag that has an effect only beside another one that was not given.

    Raises:
        InputError: it is so.
    """
    from sharpen.objective import InputError

    if given not in (None, False) and value in (None, False):
        raise InputError(flag, given, f"only with --{needed}; it would have no effect here")


def refuse_with(flag: str, given: object, other: str, value: object) -> None:
    """Refuse a flag that has no effect beside another one that was given.

    Raises:
        InputError: it is so.
    """
    from sharpen.objective import InputError

    if given not in (None, False) and value not in (None, False):
        raise InputError(flag, given, f"none with --{other}, where it would have no effect")


def only_where(condition: bool, where: str, **flags: Any) -> None:
    """Refuse flags that were given (are not None) in a mode in which nothing reads them.

    Args:
        condition: Whether something reads them.
        where: The mode in which they are read, for the message.
        flags: By name.

    Raises:
        InputError: the first of those given.

    Example:
        >>> only_where(False, "--animate", frames=None)
        >>> only_where(True, "--animate", frames=3)
    """
    from sharpen.objective import InputError

    for name, given in flags.items():
        if given is not None and not condition:
            raise InputError(name.replace("_", "-"), given, f"only with {where}: here nothing would read it")


def _objective_flag(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=OBJECTIVE)


@dataclass(frozen=True)
class ObjectiveFlags:
    """The objective's flags as they were given; None is a flag that was not."""

    preset: Annotated[
        str | None, _objective_flag("task-reward, sharpening, tempered or tilted; other flags change it.")
    ] = None
    objective: Annotated[Path | None, _objective_flag("YAML or JSON file with the objective's fields.")] = None
    alpha: Annotated[float | None, _objective_flag("Exponent of the reference likelihood, >= 0.")] = None
    beta_inv: Annotated[float | None, _objective_flag("Weight of the task reward against the KL, >= 0.")] = None
    mode: Annotated[str | None, _objective_flag("sampling or optimization.")] = None
    normalization: Annotated[str | None, _objective_flag("none, sum, mean or weighted_mean.")] = None
    weight: Annotated[float | None, _objective_flag("Length exponent of weighted_mean.")] = None
    reference: Annotated[str | None, _objective_flag("frozen, policy or refresh:K.")] = None
    alpha_right: Annotated[float | None, _objective_flag("Exponent of right answers, alpha being that of wrong.")] = (
        None
    )
    utility: Annotated[
        str | None, _objective_flag("Of the success rate: identity, log, pass@K or arcsin (GRPO's).")
    ] = None

    def any_given(self) -> bool:
        """Return whether any of the flags was given."""
        return any(flag is not None for flag in asdict(self).values())

    def build(self, default: str) -> Objective:
        """Return the objective that the flags name.

        ``--objective FILE`` or ``--preset`` gives the starting point and the other flags change it. With flags and
        neither of the two the starting point is ``Objective()`` (mode sampling, alpha 1, beta_inv 0); with nothing at
        all it is the preset ``default``.

        Raises:
            InputError: both a file and a preset are given, or either cannot be used.
            pydantic.ValidationError: a flag is out of range.
        """
        from sharpen import objective as spec

        if self.objective is not None and self.preset is not None:
            raise spec.InputError("preset", self.preset, "either --preset or --objective, not both")
        changes: dict[str, object] = {name: flag for name, flag in asdict(self).items() if flag is not None}
        changes.pop("objective", None)
        if self.objective is not None:
            found = spec.from_fields({**spec.load(self.objective).to_dict(), **changes})
        else:
            found = spec.from_fields(changes) if changes else spec.preset(default)
        only_where(found.normalization != "none", "a normalization other than none", alpha=self.alpha)
        return found
