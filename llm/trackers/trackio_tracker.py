"""trackio: a dashboard on this machine, without an account; ``trackio show`` opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpen.llm.trackers.wandb_tracker import kept


class TrackioTracker:
    """Writes numbers to the package's own database (``TRACKIO_DIR``); a continued run goes on under its name.

    Args:
        project: There.
        settings: Other arguments of ``trackio.init``, for example ``space_id``.
    """

    packages = ("trackio",)

    def __init__(self, project: str = "sharpen", **settings: Any) -> None:
        self._settings = {"project": project, **settings}

    def start(self, config: dict[str, Any], folder: Path, resumed_from_step: int) -> None:
        """Open the run, or its earlier part."""
        import trackio  # type: ignore[import-not-found]  # optional

        identity = {"name": f"{folder.resolve().name}-{kept(folder / 'trackio-id')[:6]}", "resume": "allow"}
        run: Any = trackio.init(**{"config": config, "embed": False, **identity, **self._settings})
        self._package, self._next = trackio, run._next_step  # a step that is sent again would be there twice

    def log(self, step: int, numbers: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Write a step's numbers unless it has them."""
        if step >= self._next:
            self._package.log(numbers, step=step)

    def finish(self) -> None:
        """Write what is waiting."""
        self._package.finish()
