"""Checkpoints that survive a kill at any moment.

``checkpoints/step_000020/`` is a Hugging Face folder (safetensors, config, tokenizer) that
``AutoModelForCausalLM.from_pretrained`` loads. The newest also holds ``trainer_state.pt``, what a resumed run needs.
A folder gets its name only once it is complete; ``last`` and ``best`` are links made after evaluation.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STATE = "trainer_state.pt"
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
    folder: Path, step: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, state: dict[str, Any]
) -> Path:
    """Write the checkpoint of ``step`` updates and drop the trainer state of older ones.

    Args:
        folder: The run's ``checkpoints`` folder.
        step: Updates done.
        model: The policy.
        tokenizer: Stored beside the weights.
        state: Tensors and numbers that training needs besides the weights (optimizer, reference).

    Returns:
        The checkpoint's folder.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step_{step:06d}"
    part = folder / f"part_{step:06d}"
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    torch.save(state, part / STATE)
    _flush(part)
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    for older in listed(folder):
        if step_of(older) < step:
            (older / STATE).unlink(missing_ok=True)
    return final


def newest_resumable(folder: Path) -> Path | None:
    """Return the newest checkpoint with a trainer state, or None."""
    return next((path for path in reversed(listed(folder)) if (path / STATE).exists()), None)


def load_weights(location: str | Path, model: PreTrainedModel) -> None:
    """Copy the weights in a folder (or under a hub id) into ``model``, which must have the same architecture."""
    import torch
    from transformers import AutoModelForCausalLM

    stored = AutoModelForCausalLM.from_pretrained(location, dtype=model.dtype)
    with torch.no_grad():
        model.load_state_dict(stored.state_dict())


def load_state(checkpoint: Path, device: str) -> dict[str, Any]:
    """Return what :func:`save` was given as ``state``."""
    import torch

    return torch.load(checkpoint / STATE, map_location=device, weights_only=True)


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
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
