"""Weights & Biases; its own settings (``WANDB_MODE=offline``, …) hold."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from sharpen.objective.storage import files


class WandbTracker:
    """Sends numbers to a page, whose identity the run's folder keeps: a continued run continues it.

    Args:
        project: There.
        settings: Other arguments of ``wandb.init``.
    """

    packages = ("wandb",)

    def __init__(self, project: str = "sharpen", **settings: Any) -> None:
        self._settings = {"project": project, **settings}

    def start(self, config: dict[str, Any], folder: Path, resumed_from_step: int) -> None:
        """Open the page."""
        import wandb  # type: ignore[import-not-found]  # optional

        identity = {"id": kept(folder / "wandb-id"), "resume": "allow"}
        self._run: Any = wandb.init(**{"dir": str(folder), "config": config, **identity, **self._settings})

    def log(self, step: int, numbers: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Send a step's numbers; the package itself drops a step that the page has."""
        self._run.log(numbers, step=step)

    def finish(self) -> None:
        """Finish the page."""
        self._run.finish()


def kept(file: Path) -> str:
    """Return the identity of a run that a file keeps; made and written if there is none."""
    if not file.exists():
        files.write(file, secrets.token_hex(8))
    return file.read_text(encoding="utf-8")
