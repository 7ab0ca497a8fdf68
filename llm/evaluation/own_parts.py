"""What a folder's ``provenance.json`` says of parts that are the user's: each version of their files that it had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sharpen.objective.storage import runfolder

Origin = Mapping[str, str | None] | None


def own_parts(out: Path, origins: Mapping[str, Origin], note: Callable[[str], None]) -> dict[str, Any]:
    """Return what is to be annotated: ``{"parts": ...}``, or nothing where every part is the package's.

    Args:
        out: The folder, open; versions that it had before stay.
        origins: Module, file and SHA-256 of each part, by its kind and name; None for the package's own.
        note: Told of a part that has changed since the folder was begun.
    """
    earlier = runfolder.read_provenance(out).get("parts", {})
    parts = {}
    for name, origin in origins.items():
        if origin is None:
            continue
        before = earlier.get(name, [])
        if before and before[-1] != origin:
            note(f"{name} has changed since this run was started: its numbers are of both versions")
        parts[name] = before if before and before[-1] == origin else [*before, origin]
    return {"parts": parts} if parts else {}
