"""Checkpoints that survive a kill at any moment.

``checkpoints/step_000020/`` is a Hugging Face folder (safetensors, config, tokenizer) that
``AutoModelForCausalLM.from_pretrained`` loads. The newest also holds ``trainer/``, what a resumed run needs, in
safetensors and JSON: nothing in a checkpoint is unpickled. A folder gets its name only once it is complete and on disk,
with the SHA-256 of each file (``objective/storage/files.py``); ``last`` and ``best`` are links made after evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sharpen.llm.models.checkpoints import STATE, at, listed, step_of
from sharpen.objective import InputError
from sharpen.objective.storage import files

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MANIFEST = "trainer.json"
FORMAT = 2


def save(
    folder: Path,
    step: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, Tensor],
    tensors: dict[str, dict[str, Tensor]],
    numbers: dict[str, Any],
) -> Path:
    """Write the checkpoint of ``step`` updates and drop the trainer state of older ones.

    Args:
        folder: The run's ``checkpoints`` folder.
        step: Updates done.
        model: Says what is written beside the weights: config and generation config.
        tokenizer: Stored beside the weights.
        weights: The policy's, by the names of its architecture, in the dtype to be stored.
        tensors: What a resumed run needs besides, one safetensors file a name.
        numbers: The same, as JSON.

    Returns:
        The checkpoint's folder.
    """
    from safetensors.torch import save_file

    final = at(folder, step)
    files.remove_leftovers(folder)
    with files.new_folder(final, "checkpoint") as part:
        model.save_pretrained(part, state_dict=weights)
        tokenizer.save_pretrained(part)
        state = part / STATE
        state.mkdir()
        for name, group in tensors.items():
            kept = {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}
            save_file(kept, state / f"{name}.safetensors")
        manifest = {"format": FORMAT, "step": step, "tensors": sorted(tensors), "numbers": numbers}
        text = json.dumps(manifest, allow_nan=False, indent=1) + "\n"
        (state / MANIFEST).write_text(text, encoding="utf-8")
    for older in listed(folder):
        if step_of(older) < step:
            files.remove_listed(older, f"{STATE}/*")
    return final


class Continuation(NamedTuple):
    """Where a run goes on.

    Args:
        path: The newest intact checkpoint with a trainer state.
        damaged: A line for each newer one that is not intact.
    """

    path: Path
    damaged: list[str]


def to_continue(folder: Path) -> Continuation | None:
    """Return the newest checkpoint that is as it was written, by its hashes; None if there is no checkpoint at all.

    Raises:
        InputError: there are checkpoints, but none to go on from; the message says what can be done.
    """
    found = listed(folder)
    damaged = []
    for path in reversed(found):
        if not damaged or (path / STATE / MANIFEST).is_file():  # only the newest has to have a state
            why = files.damage(path)
            if why is None and _manifest(path) is None:
                why = f"{STATE}/{MANIFEST} is of another format or step, or there is none"
            if why is None:
                return Continuation(path, [f"{path} is damaged: {reason}" for path, reason in damaged])
            damaged.append((path, why))
    if not damaged:
        return None
    path, why = damaged[0]
    way_out = "put its files back, or --force deletes this run and starts at step 1"
    raise InputError("checkpoint", str(path), f"a checkpoint as it was written ({why}); nothing was changed: {way_out}")


def load_state(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return the ``tensors`` and ``numbers`` that :func:`save` was given, on the CPU.

    Raises:
        InputError: the checkpoint is torn, truncated or not one of this program's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    manifest = _manifest(checkpoint)
    if manifest is None:
        raise _refused(checkpoint, f"{STATE}/{MANIFEST} is missing or of another format or step")
    tensors = {}
    for name in manifest["tensors"]:
        try:
            tensors[name] = load_file(checkpoint / STATE / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            raise _refused(checkpoint, f"{STATE}/{name}.safetensors cannot be read: {error}") from error
    return tensors, manifest["numbers"]


def stored_dtype(folder: Path) -> str | None:
    """Return the dtype of the newest checkpoint's weights, which is that of the passes; None without a checkpoint."""
    from safetensors import safe_open

    found = listed(folder)
    for file in sorted(found[-1].glob("*.safetensors")) if found else []:
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # it is no mapping
                return str(weights.get_slice(name)[:0].dtype).removeprefix("torch.")  # nothing of it is read
    return None


def _manifest(checkpoint: Path) -> dict[str, Any] | None:
    """Return the trainer's manifest, or None if there is none of this format and step."""
    try:
        manifest = json.loads((checkpoint / STATE / MANIFEST).read_text(encoding="utf-8"))
        known = (manifest["format"], manifest["step"]) == (FORMAT, step_of(checkpoint))
        return manifest if known and isinstance(manifest["numbers"], dict) and manifest["tensors"] else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _refused(checkpoint: Path, why: str) -> InputError:
    return InputError("checkpoint", str(checkpoint), f"a complete checkpoint of this run ({why})")


def stored_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights in a checkpoint's folder by their names, on the CPU in the stored dtype."""
    from transformers import AutoModelForCausalLM

    return dict(AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto").state_dict())


def keep(folder: Path, last: Path, best: Path | None) -> None:
    """Delete every checkpoint but two, what was written of each, and link the two as ``last`` and ``best``.

    Args:
        folder: The run's ``checkpoints`` folder.
        last: The last checkpoint.
        best: The best one; None if that is the base model, which is no checkpoint.
    """
    for path in listed(folder):
        if path not in (last, best):
            files.remove_listed(path)
    with files.naming(folder, "checkpoint"):
        for name, target in (("last", last), ("best", best)):
            link = folder / name
            if link.is_symlink() or not link.exists():  # else it is not ours
                link.unlink(missing_ok=True)
                if target is not None:
                    link.symlink_to(target.name)
