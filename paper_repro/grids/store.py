"""The results folder: one JSON file a run, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sharpen.objective import InputError
from sharpen.objective.storage import files, lock
from sharpen.objective.storage.parsing import TABLE
from sharpen.objective.storage.reading import read_json
from sharpen.paper_repro.grids.plan import Run

State = Literal["missing", "partial", "running", "failed", "stale-settings", "stale-code", "done"]
FIELDS = {"id", "settings_hash", "code_hash", "result", "provenance"}
DIGITS = 6  # significant digits that are kept of a measured number


@dataclass(frozen=True)
class Store:
    """Results and unfinished work of one scale.

    Args:
        results: Folder of ``<run id>.json``, to be committed.
        work: Folder of what runs need while they run: checkpoints, logs, locks.
    """

    results: Path
    work: Path

    def file(self, run: Run | str) -> Path:
        """Return where a run's result is, or will be."""
        return _inside(self.results, f"{run if isinstance(run, str) else run.id}.json")

    def folder(self, run: Run) -> Path:
        """Return the folder of a run's unfinished work; other settings have another one."""
        return _inside(self.work, f"{run.id}-{run.settings_hash}")

    def error(self, run: Run) -> Path:
        """Return the file that holds the traceback of a run's last failure."""
        return _inside(self.work, f"{run.id}.error")

    def read(self, run: Run | str) -> dict[str, Any] | None:
        """Return a run's result, of whatever age, or None.

        Raises:
            InputError: the file is no result.
        """
        file = self.file(run)
        if not file.is_file():
            return None
        try:
            result = read_json(file, "results", TABLE)
        except InputError as error:
            raise InputError(
                "results", error.value, f"a result of `sharpen paper run` ({error.allowed}); delete it"
            ) from error
        if not (isinstance(result, dict) and result.keys() >= FIELDS):
            raise InputError("results", str(file), "a result of `sharpen paper run` (fields are missing); delete it")
        return result

    def everything(self) -> Iterator[dict[str, Any]]:
        """Yield every result in the folder, also of runs that the grid no longer has."""
        for file in sorted(self.results.glob("*.json")):
            result = self.read(file.stem)
            if result is not None:
                yield result

    def state(self, run: Run) -> State:
        """Return where a run stands."""
        result = self.read(run)
        if result is not None and result["settings_hash"] == run.settings_hash:
            if result["code_hash"] == run.code_hash:
                return "done"
            if not self.is_running(run):
                return "stale-code"
        if self.is_running(run):
            return "running"
        if self.error(run).is_file():
            return "failed"
        if self.folder(run).is_dir():
            return "partial"
        return "missing" if result is None else "stale-settings"

    def current(self, runs: list[Run]) -> dict[str, dict[str, Any]]:
        """Return the results, by id, whose settings are those asked for now."""
        found = {run.id: (run, self.read(run)) for run in runs}
        return {
            name: result
            for name, (run, result) in found.items()
            if result is not None and result["settings_hash"] == run.settings_hash
        }

    def write(self, run: Run, result: dict[str, Any]) -> None:
        """Store a run's result; a reader sees all of it or what was there before."""
        text = json.dumps(rounded(result), indent=None, separators=(",", ":"), allow_nan=False)
        files.write(self.file(run), text + "\n")

    def is_running(self, run: Run) -> bool:
        """Return whether a process of this machine computes the run now."""
        return lock.is_held(self._lock(run))

    @contextmanager
    def held(self, run: Run) -> Iterator[bool]:
        """Hold a run's lock inside; gives False if another process has it. A kill releases it."""
        with files.naming(self.work, "work"):
            self.work.mkdir(parents=True, exist_ok=True)
            own = lock.take(self._lock(run))
        try:
            yield own is not None
        finally:
            if own is not None:
                own.release()

    def _lock(self, run: Run) -> Path:
        return _inside(self.work, f"{run.id}.lock")


def _inside(folder: Path, name: str) -> Path:
    """Return the file of a name in a folder: the last guard, whatever the name was made from.

    Raises:
        InputError: the name leads elsewhere.
    """
    file = folder / name
    if file.name != name or os.path.normpath(file.parent) != os.path.normpath(folder):
        raise InputError("run", name, f"the name of a file in {folder}")
    return file


def open_store(scale: str, results: Path | None = None, work: Path | None = None) -> Store:
    """Return the store of a scale: in a checkout ``paper_repro/results/<scale>``, elsewhere ``runs/paper/<scale>``.

    Args:
        scale: ``embedded`` or ``paper``.
        results: Another folder of results.
        work: Another folder of unfinished work.

    Raises:
        InputError: a folder is a file.
    """
    root = Path(__file__).resolve().parents[2]
    committed = root / "paper_repro" / "results" if (root / "pyproject.toml").is_file() else Path("runs/paper")
    results = results if results is not None else committed / scale
    work = work if work is not None else Path("runs/paper-work") / scale
    for folder in (results, work):
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise InputError("results", str(folder), "a folder that can be written")
    return Store(results, work)


def rounded(value: Any) -> Any:
    """Return JSON data with every float cut to six significant digits; a NaN or an infinity becomes None.

    Example:
        >>> rounded({"x": [1 / 3, float("inf"), 2]})
        {'x': [0.333333, None, 2]}
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return value
