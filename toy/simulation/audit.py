"""What each run of a simulation had changed at its records: the exact split of KL(pi || p), seeds in place of prompts.

The runs of a track start from one problem, and one theta is fitted to all of them: what they have in common is
explained, what seeds did by chance is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.objective.storage.reading import check_archive
from sharpen.theory.audit.deviance import FEATURES, split
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.toy.simulation.simulate import TRAJECTORY

POINTS = 21  # records of a track that are split: fifty milliseconds each
PREFIX = "log_policy/"


def audit_run(folder: Path, points: int = POINTS) -> list[dict[str, Any]]:
    """Return the split of every track of a finished run folder at evenly spaced records, first and last among them.

    Args:
        folder: Of `sharpen.toy.simulation.simulate.simulate`.
        points: How many records of a track at most, at least 2.

    Returns:
        Rows with ``objective``, ``learner``, ``update``; ``policy``, the mean over seeds; ``kl`` and ``rest`` (nats,
        means over seeds); ``explained`` by features joined by ``+``, and ``all``; ``shapley``; ``alpha``, the exponent
        of the closest p^alpha, None in a limit.

    Raises:
        InputError: the folder holds no finished run.
    """
    file = folder / TRAJECTORY
    if not file.is_file():
        raise InputError("out", str(folder), f"the folder of a finished run, with {TRAJECTORY}")
    check_archive(file, "trajectory")
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    problem = Problem(arrays["base"], arrays["reward"], arrays["length"])
    tracks = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    return audit_tracks(problem, arrays["updates"], tracks, points)


def audit_tracks(
    problem: Problem, updates: NDArray[np.int64], tracks: Mapping[str, FloatArray], points: int = POINTS
) -> list[dict[str, Any]]:
    """Return the split of tracks that are at hand.

    Args:
        problem: What p, r and the lengths are, n outcomes.
        updates: After which there is a record, shape [K].
        tracks: log pi by ``objective/learner``, shape [K, S, n], minus infinity where p is 0.
        points: How many records at most, at least 2.
    """
    places = np.unique(np.linspace(0, len(updates) - 1, min(points, len(updates))).round().astype(int))
    rows = []
    for key, log_policy in tracks.items():
        objective, _, learner = key.partition("/")
        for place in places:
            policies = np.exp(log_policy[place])
            found = split([problem] * len(policies), list(policies / policies.sum(axis=1, keepdims=True)))
            named = {name: fit.explained for name, fit in found.fits.items()}
            row: dict[str, Any] = {"objective": objective, "learner": learner, "update": int(updates[place])}
            row |= {"policy": policies.mean(axis=0).tolist()}
            row |= {"kl": found.kl, "explained": named | {"all": named.pop("+".join(FEATURES))}}
            rows.append(row | {"shapley": found.shapley, "rest": found.rest, "alpha": found.alpha})
    return rows
