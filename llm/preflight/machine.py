"""What this machine has: a GPU or not, memory, room on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def no_gpu() -> str | None:
    """Return why torch has no GPU, or None if it has one."""
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} finds none"


def memory(device: str) -> int | None:
    """Return the bytes of memory of the GPU that this process uses, or of the machine; None if it does not say.

    A container may have less than the machine: the limit of its control group counts then.
    """
    if device == "cuda":
        import torch

        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return min([whole, *_limits()])


def _limits() -> list[int]:
    found = []
    for name in CGROUP_LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():  # "max": no limit
            found.append(int(text))
    return found


def room_on_disk(folder: Path) -> int:
    """Return the bytes that may still be written to where a folder is or will be."""
    place = Path(os.path.realpath(folder))
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
