"""TensorBoard: event files in the run's folder, ``tensorboard/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TensorBoardTracker:
    """Writes scalars; those of steps that a killed run had reached are marked as outdated when it is continued."""

    packages = ("tensorboard",)

    def start(self, config: dict[str, Any], folder: Path, resumed_from_step: int) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_from_step)

    def log(self, step: int, numbers: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Write a step's numbers."""
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def finish(self) -> None:
        """Flush and close."""
        self._board.close()
