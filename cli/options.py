"""The command-line options that every command with an objective shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
Alpha = Annotated[float | None, typer.Option(help="Exponent of the reference likelihood, >= 0.", rich_help_panel=PANEL)]
BetaInv = Annotated[
    float | None, typer.Option(help="Weight of the task reward against the KL, >= 0.", rich_help_panel=PANEL)
]
Mode = Annotated[str | None, typer.Option(help="sampling or optimization.", rich_help_panel=PANEL)]
Normalization = Annotated[str | None, typer.Option(help="none, sum, mean or weighted_mean.", rich_help_panel=PANEL)]
Weight = Annotated[float | None, typer.Option(help="Length exponent of weighted_mean.", rich_help_panel=PANEL)]
Reference = Annotated[str | None, typer.Option(help="frozen, policy or refresh:K.", rich_help_panel=PANEL)]


@dataclass(frozen=True)
class ObjectiveFlags:
    """The objective's flags as they were given; None is a flag that was not."""

    preset: str | None = None
    file: Path | None = None
    alpha: float | None = None
    beta_inv: float | None = None
    mode: str | None = None
    normalization: str | None = None
    weight: float | None = None
    reference: str | None = None

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

        if self.file is not None and self.preset is not None:
            raise spec.InputError("preset", self.preset, "either --preset or --objective, not both")
        changes: dict[str, object] = {name: flag for name, flag in asdict(self).items() if flag is not None}
        changes.pop("file", None)
        if self.file is not None:
            return spec.from_fields({**spec.load(self.file).to_dict(), **changes})
        if not changes:
            return spec.preset(default)
        return spec.from_fields(changes)
