"""Several ``sharpen llm train`` runs at a time, one core each, and what their numbers say over seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from sharpen.objective import Objective

SHARPEN = [sys.executable, "-m", "sharpen.cli.main"]
ONE_CORE = {"OMP_NUM_THREADS": "1"}


def objective_flags(objective: Objective) -> list[str]:
    """Return an objective as flags of the command line."""
    names = {"--alpha": objective.alpha, "--beta-inv": objective.beta_inv, "--mode": objective.mode}
    return [word for flag, value in names.items() for word in (flag, str(value))]


def train_all(flags: Mapping[Path, Sequence[str]], jobs: int) -> None:
    """Train every run folder with its flags, in order, ``jobs`` at a time; what is finished is left as it is.

    Raises:
        subprocess.CalledProcessError: a run failed.
    """

    def one(folder: Path) -> None:
        command = [*SHARPEN, "llm", "train", *flags[folder], "--out", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **ONE_CORE})
        print(f"done {folder}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, flags))


def evaluation(folder: Path) -> dict[str, Any]:
    """Return a run's ``evaluation.json``."""
    return json.loads((folder / "evaluation.json").read_text())


def slopes(folder: Path) -> dict[str, float]:
    """Return a run's effective alpha, on samples of the base model and of itself, free and at fixed length."""
    found = {}
    for samples, numbers in evaluation(folder)["effective_alpha"].items():
        if samples in ("base", "policy"):
            found[f"alpha on {samples} samples"] = numbers["slope"]
            found[f"alpha on {samples} samples, fixed length"] = numbers["fixed_length"]["slope"]
    return found


def mean_interval(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and half the width of its 95% t-interval."""
    half = t.ppf(0.975, len(numbers) - 1) * np.std(numbers, ddof=1) / np.sqrt(len(numbers))
    return float(np.mean(numbers)), float(half)


def table(rows: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """Return a Markdown table of means over seeds with their intervals; a dash where a seed has no value."""
    names = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for label, columns in rows.items():
        cells = []
        for name in names:
            numbers = [number for number in columns[name] if number is not None]
            whole = len(numbers) == len(columns[name])
            cells.append("{:.3f} ± {:.3f}".format(*mean_interval(numbers)) if whole else "–")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_seed(folders: Sequence[Path], numbers_of: Callable[[Path], dict[str, float]]) -> dict[str, list[float]]:
    """Return each of the numbers of finished runs as a list over them."""
    found = [numbers_of(folder) for folder in folders]
    return {name: [numbers[name] for numbers in found] for name in found[0]}
