"""The trackers of one run, none of which can end it once it trains."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from sharpen.llm.trackers.registry import TRACKERS, Tracker
from sharpen.objective import InputError


class Tracking:
    """Tells every tracker of a run; one that fails is left out from there on, and the others and the run go on.

    Args:
        trackers: Options of each tracker by its name.
        note: Told in one line which tracker failed.
    """

    def __init__(self, trackers: Mapping[str, Mapping[str, Any]], note: Callable[[str], None]) -> None:
        self._trackers: dict[str, Tracker] = {
            name: TRACKERS.get(name, "trackers")(**options) for name, options in trackers.items()
        }
        self._note = note

    def start(self, config: dict[str, Any], folder: Path, resumed_from_step: int) -> None:
        """Start every tracker, see :class:`sharpen.llm.trackers.registry.Tracker`.

        Raises:
            InputError: one does not start; those before it have been finished.
        """
        waiting, self._trackers = self._trackers, {}
        for name, tracker in waiting.items():
            try:
                with redirect_stdout(sys.stderr):
                    tracker.start(config, folder, resumed_from_step)
            except Exception as error:
                self.finish()
                raise InputError("tracker", name, f"one that starts ({_reason(error)})") from error
            self._trackers[name] = tracker

    def log(self, record: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Tell every tracker of one step."""
        step, numbers = record["step"], numbers_of(record)
        for name in list(self._trackers):
            self._try(name, f"at step {step}", lambda tracker: tracker.log(step, dict(numbers), samples))

    def finish(self) -> None:
        """Finish every tracker that has not failed."""
        for name in list(self._trackers):
            self._try(name, "in finishing", lambda tracker: tracker.finish())
        self._trackers = {}

    def _try(self, name: str, when: str, tell: Callable[[Tracker], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):
                tell(self._trackers[name])
        except Exception as error:  # whatever a tracker raises: hours of training are worth more than its picture
            del self._trackers[name]
            self._note(f"the tracker {name} failed {when} and is left out from there on ({_reason(error)})")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record; those in groups get the group's name, and the step is none.

    Example:
        >>> numbers_of({"step": 3, "kl": 0.5, "reward": None, "seconds": {"total": 2}})
        {'kl': 0.5, 'seconds/total': 2}
    """
    found: dict[str, float] = {}
    for name, number in record.items():
        for label, scalar in number.items() if isinstance(number, dict) else [("", number)]:
            if isinstance(scalar, int | float) and name != "step":
                found[f"{name}/{label}".rstrip("/")] = scalar
    return found
