"""From the flags of `sharpen toy simulate` and `watch` to settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.cli import options

if TYPE_CHECKING:
    from sharpen.toy.config import SimulateConfig


def resolve(
    changes: dict[str, Any], step_size: float | None, chosen: options.ObjectiveFlags, file: Path | None
) -> SimulateConfig:
    """Return the settings in ``file``, changed by flags; those of ``changes`` that are None were not given.

    Raises:
        InputError: the file or the objective cannot be used.
        pydantic.ValidationError: a setting is out of range.
    """
    from sharpen.toy.config import SimulateConfig, load_settings

    settings = load_settings(file) if file is not None else {}
    settings |= {name: flag for name, flag in changes.items() if flag is not None}
    if chosen.any_given():
        objective = chosen.build(default="tempered")
        settings["objectives"] = {chosen.preset or objective.regime: objective.to_dict()}
    resolved = SimulateConfig.model_validate(settings)
    if step_size is None:
        return resolved
    sizes = {**resolved.step_size, **dict.fromkeys(resolved.learners, step_size)}
    return SimulateConfig.model_validate({**resolved.model_dump(mode="json"), "step_size": sizes})


def names(learner: list[str] | None) -> list[str] | None:
    """Return the learners of a flag that is repeated or separated by commas; None if it was not given."""
    return [kind.strip() for given in learner for kind in given.split(",")] if learner else None
