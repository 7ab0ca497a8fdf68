"""Objectives to and from YAML and JSON text and files."""

from __future__ import annotations

from pathlib import Path

import yaml

from sharpen.objective.errors import InputError
from sharpen.objective.presets import preset
from sharpen.objective.spec import Objective
from sharpen.objective.storage.parsing import parse_yaml
from sharpen.objective.storage.reading import read_mapping


def to_yaml(objective: Objective) -> str:
    """Return the objective as a YAML mapping of its fields."""
    return yaml.safe_dump(objective.to_dict(), sort_keys=False)


def from_yaml(text: str) -> Objective:
    """Return the objective that a YAML (so also a JSON) mapping describes.

    A key ``preset`` names the objective that the other keys change.

    Raises:
        InputError: the text is not a mapping, or names an unknown preset.
        pydantic.ValidationError: a field is unknown or out of range.

    Example:
        >>> from_yaml("{preset: tempered, alpha: 4}").alpha
        4.0
    """
    fields = parse_yaml(text, "objective")
    if not isinstance(fields, dict):
        raise InputError("objective", fields, "a YAML or JSON mapping of the objective's fields")
    return from_fields({str(name): given for name, given in fields.items()})


def from_fields(fields: dict[str, object]) -> Objective:
    """Return the objective with these fields; a field ``preset`` names what the others change."""
    changes = dict(fields)
    name = changes.pop("preset", None)
    return Objective.model_validate(changes) if name is None else preset(str(name), **changes)


def load(path: str | Path) -> Objective:
    """Return the objective in a .yaml, .yml or .json file.

    Raises:
        InputError: the file cannot be read, or holds no objective.
    """
    return from_fields(read_mapping(path, "objective", "the objective's fields"))
