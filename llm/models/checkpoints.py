"""The checkpoints in a run folder, by name: ``checkpoints/step_000020/``, a Hugging Face folder each."""

from __future__ import annotations

import re
from pathlib import Path

from sharpen.objective import InputError
from sharpen.objective.storage import files

STATE = "trainer"  # what a resumed run needs, in the newest
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
    parts = ("config.json", STATE, files.LISTING)  # a folder without any holds what a user put there
    found = [path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)]
    return sorted((path for path in found if any((path / part).exists() for part in parts)), key=step_of)


def at(folder: Path, step: int) -> Path:
    """Return where the checkpoint of ``step`` updates is, or will be."""
    return folder / f"step_{step:06d}"


def check(checkpoint: Path) -> None:
    """Refuse a checkpoint whose weights are not what was written; one without a listing passes.

    Raises:
        InputError: a file is missing or has another content.
    """
    if files.listed(checkpoint) is not None:
        why = files.damage(checkpoint, ignoring=f"{STATE}/*")
        if why is not None:
            raise InputError("checkpoint", str(checkpoint), f"a checkpoint as it was written ({why})")
