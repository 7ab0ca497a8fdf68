"""What is on this machine: packages, processors, models, data sets; and what a run would still miss here."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sharpen.llm.models import hub, store
from sharpen.llm.preflight.machine import memory
from sharpen.objective import InputError
from sharpen.objective.version import DISTRIBUTION, install

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

GIB = 2**30
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*(?:;.*extra == ['\"]([\w-]+)['\"])?")


class Thing(NamedTuple):
    """Something that can be here or not.

    Args:
        name: What a user calls it.
        here: Whether it is.
        note: Its version or place; or the command that gets it.
    """

    name: str
    here: bool
    note: str


def packages() -> dict[str, list[Thing]]:
    """Return what each extra needs, by extra (``base`` for what always comes), as the installed distribution says.

    Without an installed distribution (a checkout on the path) nothing is known and nothing returned.
    """
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[Thing]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        assert match is not None
        name, extra = match[1], match[2] or "base"
        try:
            thing = Thing(name, True, metadata.version(name))
        except metadata.PackageNotFoundError:
            thing = Thing(name, False, install("" if extra == "base" else extra))
        found.setdefault(extra, []).append(thing)
    return found


def machine() -> dict[str, Any]:
    """Return Python, cores that this process may use, memory in GiB, and the GPUs that torch sees (None: no torch)."""
    there = memory("cpu")
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(terse=True),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": None if there is None else there / GIB,
        "gpus": _gpus(),
    }


def _gpus() -> list[str] | None:
    if find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(place) for place in range(torch.cuda.device_count())]
    return [f"{one.name}, {one.total_memory / GIB:.0f} GiB" for one in found]


def models() -> list[Thing]:
    """Return the models that have a name, here or not; needs the extra ``llm``."""
    from sharpen.llm.models.registry import BUILT_IN, REGISTRY, resolve
    from sharpen.llm.preflight.inventory import is_cached

    found = [Thing(name, True, resolve(name).location) for name in BUILT_IN]
    for name, source in REGISTRY.items():
        if store.is_converted(source.location):
            found.append(_converted(name, source.location))
            continue
        command, folder = hub.model_command(source.location)
        here = is_cached(source.location)
        note = f"{source.location} in the cache" if here else f"{command}, then --model {folder}"
        found.append(Thing(name, here, note))
    return found


def _converted(name: str, location: str) -> Thing:
    missing = store.lacking(location)
    if missing is not None:
        return Thing(name, False, missing.get[0])
    return Thing(name, True, str(store.place(location)) if store.is_ready(location) else "converted at its first use")


def data_sets() -> list[Thing]:
    """Return the data sets of the hub that have a name, here or not; needs the extra ``llm``."""
    from sharpen.llm.tasks.sources import HUB

    found = [Thing(name, True, "generated") for name in ("embedded", "dial")]
    for name, known in HUB.items():
        command, folder = hub.data_command(known.location, known.configuration)
        here = _data_is_cached(known.location)
        note = f"{known.location} in the cache" if here else f"{command}, then --data {folder}"
        found.append(Thing(name, here, note))
    return found


def _data_is_cached(location: str) -> bool:
    """Return whether the hub's cache or that of its library datasets holds a data set."""
    from datasets import config
    from huggingface_hub import constants

    files = Path(constants.HF_HUB_CACHE) / f"datasets--{location.replace('/', '--')}" / "snapshots"
    tables = Path(config.HF_DATASETS_CACHE) / location.replace("/", "___")
    return any(place.is_dir() and any(place.iterdir()) for place in (files, tables))


def run_named(name: str) -> TrainConfig:
    """Return the training run that a name stands for: a run folder, a file of settings, a recipe, or a model.

    Raises:
        InputError: it stands for none of them.
    """
    from sharpen.llm.configs import recipes
    from sharpen.llm.configs.train import TrainConfig, load_changes, resolve
    from sharpen.llm.models.registry import BUILT_IN, REGISTRY
    from sharpen.objective.storage import runfolder

    path = Path(name)
    if (path / runfolder.CONFIG).is_file():
        return runfolder.read_config(path, TrainConfig)
    if path.is_file() and not store.is_converted(name):
        return resolve(load_changes(name))
    if name in recipes.names():
        return resolve(recipes.load(name))
    if name in BUILT_IN or name in REGISTRY or store.is_converted(name) or (path / "config.json").is_file():
        return resolve({"model": name})
    allowed = "a run folder, a file of settings, a recipe (`sharpen llm recipes`), or a model"
    raise InputError("run", name, allowed)


def missing(config: TrainConfig) -> list[InputError]:
    """Return what a run would miss on this machine; nothing is downloaded and nothing started."""
    from sharpen.llm.distributed.world import World
    from sharpen.llm.preflight.checks import for_plan

    return for_plan(config, World(0, 1))
