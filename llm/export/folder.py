"""``sharpen llm export``: a run's checkpoint, a LoRA adapter or any model as a folder that others load."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.configs.targets import find_target
from sharpen.llm.export.card import CARD, card
from sharpen.llm.models.registry import ModelSource, load_architecture, load_model, load_tokenizer
from sharpen.objective import InputError
from sharpen.objective.storage import files, lock, runfolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = ("auto", "float32", "bfloat16", "float16")
ADAPTER, EXPORT = "adapter_config.json", "export.json"


def export(
    name: str, out: Path, *, which: str | None = None, base: str | None = None, dtype: str = "auto", force: bool = False
) -> dict[str, Any]:
    """Write a model's weights (safetensors), config, tokenizer and model card to ``out``, and read them back.

    A LoRA adapter in peft's format is merged into its base model, W + (lora_alpha / rank) B A; checkpoints of a LoRA
    run of ``sharpen llm train`` are merged already. ``out`` appears only once it is complete and has been read back.

    Args:
        name: As ``sharpen llm eval --model``, or a folder with a LoRA adapter in peft's format.
        out: A new folder.
        which: Checkpoint of a run folder; None for the last.
        base: Base model of an adapter; None for the one that it names.
        dtype: Of the stored weights: ``auto`` (as they are), ``float32``, ``bfloat16``, ``float16``.
        force: Replace an earlier export in ``out``.

    Returns:
        The content of ``export.json``: ``model``, ``location``, ``base``, ``dtype``, ``parameters``, ``files`` (bytes
        by name), ``provenance``.

    Raises:
        InputError: there is no such model, ``out`` is in the way, or what was written does not read back the same.
    """
    if dtype not in DTYPES:
        raise InputError("dtype", dtype, ", ".join(DTYPES))
    place = Path(os.path.realpath(out))
    with ExitStack() as locked:
        with files.naming(out, "out"):
            _check_free(place, out, force)
            place.parent.mkdir(parents=True, exist_ok=True)
            locked.enter_context(lock.held(place.with_name(f".{place.name}.lock"), out))
            files.remove_leftovers(place.parent, place.name)
        location, origin, model, tokenizer = _loaded(name, which, base, dtype)
        with files.new_folder(out) as part:
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            _check_written(model, part, out)
            dtype = str(model.dtype).removeprefix("torch.")
            files.write(part / CARD, card(name, location, origin, dtype, model.num_parameters()))
            told = _told(name, location, origin, model, part)
            files.write(part / EXPORT, json.dumps(told, indent=2) + "\n")
            _check_free(place, out, force)
    return told


def _told(name: str, location: str, origin: str | None, model: PreTrainedModel, part: Path) -> dict[str, Any]:
    return {
        "model": name,
        "location": location,
        "base": origin,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": model.num_parameters(),
        "files": {file.name: file.stat().st_size for file in sorted(part.iterdir()) if file.name != files.UNFINISHED},
        "provenance": runfolder.provenance(),
    }


def _check_free(place: Path, out: Path, force: bool) -> None:
    """Refuse a place that holds anything but, with ``force``, what an export wrote there."""
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return
    if not (force and place.is_dir() and (place / EXPORT).is_file() and files.listed(place) is not None):
        raise InputError("out", str(out), "a new or empty folder, or with --force one that an earlier export made")
    others = files.foreign(place)
    if others:
        raise InputError("out", str(out), f"a folder without files that no export wrote; this one has {others[0]}")


def _loaded(name: str, which: str | None, base: str | None, dtype: str) -> tuple[str, str | None, PreTrainedModel, Any]:
    """Return location, base, the plain model and its tokenizer."""
    if (Path(name) / ADAPTER).is_file():
        if which is not None:
            raise InputError("checkpoint", which, f"none for {name}, which is a LoRA adapter")
        origin = find_target(base or _named_base(Path(name))).location
        model = _merged(name, _plain(origin, dtype))
        has_tokenizer = (Path(name) / "tokenizer_config.json").is_file()
        return name, origin, model, load_tokenizer(_at(name if has_tokenizer else origin))
    if base is not None:
        raise InputError("base", base, f"none: {name} is no LoRA adapter")
    target = find_target(name, which)
    origin = target.base if target.base != target.location else None
    return target.location, origin, _plain(target.location, dtype), load_tokenizer(_at(target.location))


def _plain(location: str, dtype: str) -> PreTrainedModel:
    if dtype == "auto":
        stored = getattr(load_architecture(_at(location)), "dtype", None)
        dtype = str(stored).removeprefix("torch.") if stored is not None else "float32"
    return load_model(_at(location), "cpu", dtype)


def _merged(adapter: str, base: PreTrainedModel) -> PreTrainedModel:
    from peft import PeftModel, get_peft_model_state_dict

    from sharpen.llm.models.folder import (
        ADAPTER_WEIGHTS,
        ModelFolderError,
        check_adapter,
        check_complete,
        check_finite,
        guarded,
        stored_tensors,
    )

    try:
        check_adapter(Path(adapter))
        stored = stored_tensors(Path(adapter) / ADAPTER_WEIGHTS).keys()
        adapted: Any = guarded(lambda: PeftModel.from_pretrained(base, adapter))
        own = get_peft_model_state_dict(adapted)
        check_complete("this adapter", missing=own.keys() - stored, unexpected=stored - own.keys())
        check_finite(own.items(), "in the adapter")
        merged: PreTrainedModel = guarded(lambda: adapted.merge_and_unload(safe_merge=True))
        check_finite(merged.named_parameters(), "in the sum of base and adapter")
        return merged
    except ModelFolderError as error:
        raise InputError("model", adapter, f"a LoRA adapter of the base model {base.name_or_path} ({error})") from error


def _named_base(adapter: Path) -> str:
    try:
        return str(json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("model", str(adapter), f"an adapter whose {ADAPTER} names its base; or pass --base") from error


def _check_written(model: PreTrainedModel, folder: Path, out: Path) -> None:
    """Compare every weight with what ``from_pretrained`` reads back."""
    import torch
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
    written = model.state_dict()
    wrong = [name for name in written if name not in read or not torch.equal(written[name], read[name])]
    if wrong or read.keys() != written.keys():
        raise InputError(
            "out", str(out), f"a folder that keeps what is written ({', '.join(wrong[:3])} came back other)"
        )


def _at(location: str) -> ModelSource:
    return ModelSource(location, location)
