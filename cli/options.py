"""The command-line options that every command with an objective shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sharpen.objective import Objective

PANEL = "Objective"
Preset = Annotated[
    str | None,
    typer.Option(help="task-reward, sharpening, tempered or tilted; other flags change it.", rich_help_panel=PANEL),
]
ObjectiveFile = Annotated[
    Path | None,
    typer.Option("--objective", help="YAML or JSON file with the objective's fields.", rich_help_panel=PANEL),
]
Alpha = Annotated[
    float | None, typer.Option(help="Exponent of the reference likelihood, >= 0.", rich_help_panel=PANEL)
]
BetaInv = Annotated[
    float | None, typer.Option(help="Weight of the task reward against the KL, >= 0.", rich_help_panel=PANEL)
]
Mode = Annotated[str | None, typer.Option(help="sampling or optimization.", rich_help_panel=PANEL)]
Normalization = Annotated[str | None, typer.Option(help="none, sum, mean or weighted_mean.", rich_help_panel=PANEL)]
Weight = Annotated[float | None, typer.Option(help="Length exponent of weighted_mean.", rich_help_panel=PANEL)]
Reference = Annotated[str | None, typer.Option(help="frozen, policy or refresh:K.", rich_help_panel=PANEL)]


def build_objective(
    *,
    default: str,
    preset: str | None,
    file: Path | None = None,
    alpha: float | None = None,
    beta_inv: float | None = None,
    mode: str | None = None,
    normalization: str | None = None,
    weight: float | None = None,
    reference: str | None = None,
) -> Objective:
    """Return the objective that the flags name.

    ``--objective FILE`` or ``--preset`` gives the starting point and the other flags change it. With flags and neither
    of the two the starting point is ``Objective()`` (mode sampling, alpha 1, beta_inv 0); with nothing at all it is the
    preset ``default``.

    Raises:
        InputError: both a file and a preset are given, or either cannot be used.
        pydantic.ValidationError: a flag is out of range.
    """
    from sharpen import objective as spec

    if file is not None and preset is not None:
        raise spec.InputError("preset", preset, "either --preset or --objective, not both")
    given = {
        "alpha": alpha,
        "beta_inv": beta_inv,
        "mode": mode,
        "normalization": normalization,
        "weight": weight,
        "reference": reference,
    }
    changes = {name: flag for name, flag in given.items() if flag is not None}
    if file is not None:
        return spec.from_fields({**spec.load(file).to_dict(), **changes})
    if preset is None and not changes:
        preset = default
    return spec.from_fields({"preset": preset, **changes} if preset is not None else dict(changes))
