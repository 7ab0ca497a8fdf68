"""From the flags of `sharpen toy simulate` and `watch` to settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.cli.shared import options

if TYPE_CHECKING:
    from sharpen.toy.simulation.config import SimulateConfig


def resolve(
    changes: dict[str, Any], step_size: float | None, chosen: options.ObjectiveFlags, file: Path | None
) -> SimulateConfig:
    """Return the settings in ``file``, changed by flags; those of ``changes`` that are None were not given.

    Raises:
        InputError: the file or the objective cannot be used.
        pydantic.ValidationError: a setting is out of range.
    """
    from sharpen.toy.simulation.config import SimulateConfig, load_settings

    settings = load_settings(file) if file is not None else {}
    settings |= {name: flag for name, flag in changes.items() if flag is not None}
    if chosen.any_given():
        objective = chosen.build(default="tempered")
        settings["objectives"] = {chosen.preset or objective.regime: objective.to_dict()}
    resolved = SimulateConfig.model_validate(settings)
    _refuse_unread(resolved, changes)
    if step_size is None:
        return resolved
    sizes = {**resolved.step_size, **dict.fromkeys(resolved.learners, step_size)}
    return SimulateConfig.model_validate({**resolved.model_dump(mode="json"), "step_size": sizes})


def _refuse_unread(resolved: SimulateConfig, flags: dict[str, Any]) -> None:
    """Refuse flags that no learner and no objective of these settings reads."""
    from sharpen.toy.learners.registry import LEARNERS

    def given(*wanted: str) -> dict[str, Any]:
        return {name: flags.get(name) for name in wanted}

    sampled = any(not LEARNERS.get(kind).exact for kind in resolved.learners)
    random = sampled or resolved.base_noise > 0
    optimized = any(not LEARNERS.get(kind).flow for kind in resolved.learners)
    weighed = any(objective.length_exponent != 0.0 for objective in resolved.objectives.values())
    options.only_where(sampled, "a sampled learner", **given("group_size", "kl", "reward_noise"))
    rewarded = any(objective.coefficients.w_r != 0.0 for objective in resolved.objectives.values())
    options.only_where(rewarded, "an objective with a task reward", **given("true_positive", "false_positive"))
    options.only_where(random, "a sampled learner or --base-noise", **given("seeds", "seed"))
    options.only_where(optimized, "a learner that takes steps, not a flow", **given("optimizer"))
    options.only_where(resolved.optimizer == "adam", "--optimizer adam", **given("epsilon"))
    options.only_where(weighed, "--normalization mean or weighted_mean, which divide by it", **given("length"))


def names(learner: list[str] | None) -> list[str] | None:
    """Return the learners of a flag that is repeated or separated by commas; None if it was not given."""
    return [kind.strip() for given in learner for kind in given.split(",")] if learner else None
