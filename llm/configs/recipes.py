"""The paper's runs by name: ``<model>/<regime>-<alpha>-<beta_inv>[-fixed][-<normalization>]``.

``llm/configs/grid.yaml`` holds them all: the settings of each model, and the grid of objectives.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from sharpen.llm.configs.grid import grid
from sharpen.llm.configs.train import resolve
from sharpen.objective import PRESETS, InputError, Objective
from sharpen.objective.settings import as_name
from sharpen.objective.storage import files

FIELDS = ("alpha", "beta_inv", "mode", "normalization", "weight")


def names(model: str | None = None) -> list[str]:
    """Return the names of all recipes, or of one model's, in the order of the grid.

    Example:
        >>> names("qwen3-4b")[:3]
        ['qwen3-4b/sharpening-1-0', 'qwen3-4b/task-reward-0-1', 'qwen3-4b/tempered-0.5-0']
    """
    return [name for name in _all() if model is None or name.startswith(f"{model}/")]


def load(name: str) -> dict[str, Any]:
    """Return the changes to a run's settings that the recipe ``name`` stands for: model, objective, fixed length.

    Raises:
        InputError: there is no such recipe; the message names similar ones.

    Example:
        >>> load("qwen2.5-3b/tempered-2-0-fixed")
        {'model': 'qwen2.5-3b', 'objective': {'alpha': 2.0, 'beta_inv': 0.0, 'mode': 'sampling'}, 'ignore_eos': True}
    """
    found = _all().get(name)
    if found is None:
        near = difflib.get_close_matches(name, list(_all()), n=3, cutoff=0.5) or names()[:3]
        raise InputError("recipe", name, f"one that `sharpen llm recipes` lists, for example {', '.join(near)}")
    return {**found, "objective": dict(found["objective"])}


def folder_name(model: str, objective: Objective, *, fixed: bool = False, reward: str = "task") -> str:
    """Return the name of a run's folder unless the user gives another: different models and objectives, other names.

    Args:
        model: As the user named it.
        objective: The run's.
        fixed: Whether responses have a fixed length.
        reward: Kind of the reward.

    Example:
        >>> from sharpen.objective import PRESETS
        >>> folder_name("qwen2.5-3b", PRESETS["task-reward"])
        'qwen2.5-3b-task-reward'
        >>> folder_name("models/Qwen3-4B", Objective(alpha=4, beta_inv=0, mode="sampling"), fixed=True)
        'Qwen3-4B-tempered-4-0-fixed'
        >>> folder_name("embedded", Objective(beta_inv=10, utility="pass@4"))
        'embedded-tilted-1-10-pass4'
    """
    known = next((name for name, preset in PRESETS.items() if preset == objective), None)
    name = _name(objective, fixed) if known is None else known + "-fixed" * fixed
    return "-".join(
        [Path(model).name or "model", name, *([as_name(reward)] if objective.needs_reward and reward != "task" else [])]
    )


def write(folder: Path, model: str | None = None) -> list[Path]:
    """Write every recipe as a complete YAML file of settings, ``<folder>/<name>.yaml``, and return the files.

    Each is what ``sharpen llm train --config FILE`` takes.

    Raises:
        InputError: the folder cannot be written.
    """
    import yaml

    written = []
    for name in names(model):
        file = folder / f"{name}.yaml"
        settings = resolve(load(name)).model_dump(mode="json")
        files.write(file, f"# sharpen llm train --recipe {name}\n" + yaml.safe_dump(settings, sort_keys=False), "write")
        written.append(file)
    return written


@lru_cache(maxsize=1)
def _all() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for block in grid()["grid"]:
        for model in block["models"]:
            for fixed in block["fixed_length"]:
                for objective in _objectives(block):
                    changes: dict[str, Any] = {"model": model, "objective": _fields(objective)}
                    if fixed:
                        changes["ignore_eos"] = True
                    found[f"{model}/{_name(objective, fixed)}"] = changes
    return found


def _objectives(block: dict[str, Any]) -> Iterator[Objective]:
    """Yield each objective of a block under each normalization that changes it."""
    sampling = block["sampling"]
    points = [("optimization", alpha, beta_inv) for alpha, beta_inv in block["optimization"]]
    points += [("sampling", alpha, beta_inv) for beta_inv in sampling["beta_inv"] for alpha in sampling["alpha"]]
    for normalization, extra in grid()["normalizations"].items():
        for mode, alpha, beta_inv in points:
            point = {"mode": mode, "alpha": alpha, "beta_inv": beta_inv, "normalization": normalization}
            objective = Objective.model_validate({**point, **extra})
            w = objective.coefficients
            # What is normalised is the likelihood beyond the KL's own log p: without it all normalizations are one.
            if normalization == "sum" or w.w_p != w.w_h:
                yield objective


def _name(objective: Objective, fixed: bool) -> str:
    parts = [objective.regime, f"{objective.alpha:g}", f"{objective.beta_inv:g}"]
    parts += ["fixed"] if fixed else []
    parts += [objective.normalization] if objective.normalization != "sum" else []
    return "-".join(parts + family_parts(objective))


def family_parts(objective: Objective) -> list[str]:
    """Return what a name says of an exponent of right answers and of a utility.

    Example:
        >>> family_parts(Objective(beta_inv=10, alpha_right=0, utility="pass@4"))
        ['right-0', 'pass4']
    """
    parts = [f"right-{objective.alpha_right:g}"] if objective.alpha_right is not None else []
    return parts + ([objective.utility.replace("@", "")] if objective.utility != "identity" else [])


def _fields(objective: Objective) -> dict[str, Any]:
    defaults = Objective().to_dict()
    given = {name: value for name, value in objective.to_dict().items() if name in FIELDS}
    return {n: v for n, v in given.items() if n in ("alpha", "beta_inv", "mode") or v != defaults[n]}
