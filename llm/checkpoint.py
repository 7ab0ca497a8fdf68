"""Checkpoints that survive a kill at any moment.

``checkpoints/step_000020/`` is a Hugging Face folder (safetensors, config, tokenizer) that
``AutoModelForCausalLM.from_pretrained`` loads. The newest also holds ``trainer/``, what a resumed run needs, in
safetensors and JSON: nothing in a checkpoint is unpickled. A folder gets its name only once it is complete and on disk;
``last`` and ``best`` are links made after evaluation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.objective import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STATE, MANIFEST = "trainer", "trainer.json"
FORMAT = 1
_NAME = re.compile(r"step_(\d{6,})")


def step_of(checkpoint: Path) -> int:
    """Return the number of updates behind a checkpoint folder.

    Example:
        >>> step_of(Path("checkpoints/step_000020"))
        20
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"checkpoint: got {checkpoint.name!r}, allowed: step_ and the number of updates")
    return int(match[1])


def listed(folder: Path) -> list[Path]:
    """Return the complete checkpoints in ``folder``, oldest first; none if the folder does not exist."""
    found = [path for path in folder.glob("step_*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


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

    folder.mkdir(parents=True, exist_ok=True)
    final, part = folder / f"step_{step:06d}", folder / f"part_{step:06d}"
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part, state_dict=weights)
    tokenizer.save_pretrained(part)
    state = part / STATE
    state.mkdir()
    sizes = {}
    for name, group in tensors.items():
        file = state / f"{name}.safetensors"
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, file)
        sizes[file.name] = file.stat().st_size
    stored = {path.name: path.stat().st_size for path in part.iterdir() if path.is_file()}
    manifest = {"format": FORMAT, "step": step, "files": sizes, "model_files": stored, "numbers": numbers}
    (state / MANIFEST).write_text(json.dumps(manifest, allow_nan=False, indent=1) + "\n", encoding="utf-8")
    _flush(part)
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    _flush_folder(folder)
    for older in listed(folder):
        if step_of(older) < step:
            shutil.rmtree(older / STATE, ignore_errors=True)
    return final


def newest_resumable(folder: Path) -> Path | None:
    """Return the newest checkpoint with a trainer state, or None."""
    return next((path for path in reversed(listed(folder)) if (path / STATE).is_dir()), None)


def load_state(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return the ``tensors`` and ``numbers`` that :func:`save` was given, on the CPU.

    Raises:
        InputError: the checkpoint is torn, truncated or not one of this program's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    manifest = _manifest(checkpoint)
    tensors = {}
    for name in manifest["files"]:
        try:
            tensors[Path(name).stem] = load_file(checkpoint / STATE / name)
        except (OSError, SafetensorError) as error:
            raise _refused(checkpoint, f"{STATE}/{name} cannot be read: {error}") from error
    return tensors, manifest["numbers"]


def _manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest after comparing it with the files that are there."""
    try:
        manifest = json.loads((checkpoint / STATE / MANIFEST).read_text(encoding="utf-8"))
        groups = ((checkpoint / STATE, manifest["files"]), (checkpoint, manifest["model_files"]))
        known = manifest["format"] == FORMAT and manifest["step"] == step_of(checkpoint)
        wanted = {where / name: size for where, sizes in groups for name, size in sizes.items()}
        numbers = manifest["numbers"]
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refused(checkpoint, f"{STATE}/{MANIFEST} cannot be read: {type(error).__name__}") from error
    if not known or not isinstance(numbers, dict):
        raise _refused(checkpoint, f"{STATE}/{MANIFEST} is of another format or another step")
    for file, size in wanted.items():
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            raise _refused(checkpoint, f"{file.name} has {found} bytes instead of {size}")
    return manifest


def _refused(checkpoint: Path, why: str) -> InputError:
    return InputError(
        "checkpoint", str(checkpoint), f"a complete checkpoint of this run ({why}); delete it to go on without it"
    )


def stored_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights in a checkpoint's folder by their names, on the CPU in the stored dtype."""
    from transformers import AutoModelForCausalLM

    return dict(AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto").state_dict())


def keep(folder: Path, last: Path, best: Path) -> None:
    """Delete every checkpoint but two and link them as ``last`` and ``best``."""
    for path in listed(folder):
        if path not in (last, best):
            shutil.rmtree(path)
    for name, target in (("last", last), ("best", best)):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)


def _flush(folder: Path) -> None:
    """Make the files durable before the folder is renamed: a rename may reach the disk before their contents."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
