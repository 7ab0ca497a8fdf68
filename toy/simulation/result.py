"""A simulation as an object: its policies as arrays, its measures as a table.

Axis letters: K records, S seeds, n outcomes.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.objective.storage import runfolder
from sharpen.objective.storage.parsing import ROWS
from sharpen.objective.storage.reading import check_archive
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.optima.optimum import policy_value
from sharpen.toy.dynamics import engine
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.engine import log_policy_only, recorded
from sharpen.toy.dynamics.observe import MEASURES, observer
from sharpen.toy.problems.setting import Setting, setting, supported, verified
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.simulate import (
    SUMMARY,
    TRAJECTORY,
    Track,
    ensemble_of,
    finished,
    on_all_outcomes,
    part_of,
    tracks,
)

BLOCK = 2**20  # numbers measured in one pass


@dataclass(frozen=True, eq=False)
class Simulation:
    """Runs of one or more learners on one or more objectives.

    Args:
        config: What was run.
        updates: After which there is a record, shape [K].
        log_policy: log pi by track, ``objective/learner``, shape [K', S, n] with K' = K, or fewer where a run folder
            is not finished; one seed for an exact learner.
        summary: What ``summary.json`` holds: where each track ended, and what the theory says; None for a run that is
            not finished.
    """

    config: SimulateConfig
    updates: NDArray[np.int64]
    log_policy: dict[str, FloatArray]
    summary: dict[str, Any] | None
    problem: Problem = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", self.config.problem())

    @property
    def policy(self) -> dict[str, FloatArray]:
        """Probabilities by track, shape [K', S, n]."""
        return {key: np.exp(log_policy) for key, log_policy in self.log_policy.items()}

    def frame(self, *, policy: bool = True) -> pd.DataFrame:
        """Return a row for each track, seed and record.

        Args:
            policy: Whether to give the policy too, in the columns ``policy_0``, ``policy_1``, ...

        Returns:
            ``objective``, ``regime``, ``learner``, ``seed``, ``step`` and the columns of a sweep's table that describe
            a policy, in nats and tokens: ``expected_reward``, ``entropy``, ``kl_base``, ``kl_optimum``,
            ``effective_alpha``, ... (docs/toy.md); and ``value``, J of the objective.
        """
        found = [self._rows(track, policy) for track in tracks(self.config) if track.key in self.log_policy]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def ends(self) -> pd.DataFrame:
        """Return a row for each track: what ``summary`` says of it that is a number, a word or an interval.

        The ends of an interval are in the columns ``_low`` and ``_high``, NaN where there is none.

        Raises:
            InputError: the run is not finished.
        """
        if self.summary is None:
            raise InputError("simulation", "a run that is not finished", "a finished one")
        return pd.DataFrame([_flat(row) for row in self.summary["tracks"]])

    def _rows(self, track: Track, policy: bool) -> pd.DataFrame:
        log_policy = self.log_policy[track.key]
        K, S, n = log_policy.shape
        by_seed = np.moveaxis(log_policy, 0, 1).reshape(-1, n)  # [S K, n]
        at = setting(track.objective, supported(self.problem), 1.0, verifier=self.config.verifier)
        columns: dict[str, Any] = {
            "objective": track.name,
            "regime": track.objective.regime,
            "learner": track.kind,
            "seed": np.repeat(np.arange(S), K),
            "step": np.tile(self.updates[:K], S),
            **_measured(at, by_seed[:, self.problem.support]),
            "value": policy_value(track.objective, verified(self.problem, self.config.verifier), by_seed),
        }
        top = np.flatnonzero(self.problem.support)
        columns["top_outcome"] = top[columns["top_outcome"].astype(np.int64)]
        if policy:
            columns |= {f"policy_{outcome}": np.exp(by_seed[:, outcome]) for outcome in range(n)}
        return pd.DataFrame(columns)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, told in row.items():
        if name.endswith("_interval"):
            ends = told or (math.nan, math.nan)
            found |= dict(
                zip((f"{name.removesuffix('_interval')}{end}" for end in ("_low", "_high")), ends, strict=True)
            )
        elif not isinstance(told, dict | list):
            found[name] = told
    return found


def _measured(at: Setting, log_policy: FloatArray) -> dict[str, FloatArray]:
    """Return the measures of policies, shape [N, n] to [N] each; the gradient's noise is no function of a policy."""
    measure = _measuring()
    most = max(1, BLOCK // log_policy.shape[1])
    with jax.enable_x64():
        blocks = [measure(at, log_policy[first : first + most]) for first in range(0, len(log_policy), most)]
    names = [name for name in MEASURES if name != "gradient_snr"]
    return {name: np.concatenate([np.asarray(block[name]) for block in blocks]) for name in names}


@lru_cache(maxsize=1)
def _measuring() -> Callable[[Setting, FloatArray], dict[str, jax.Array]]:
    """Return the map (setting, log pi [N, n]) -> measures [N], one for all objectives."""
    observe = observer(())
    return quickly(jax.vmap(lambda at, log_pi: observe(at, log_pi[None], None), in_axes=(None, 0)))  # type: ignore[arg-type]


def load(folder: str | Path) -> Simulation:
    """Return the simulation in a run folder, finished or not.

    Args:
        folder: Of ``sharpen toy simulate`` or :func:`sharpen.toy.simulate`.

    Raises:
        InputError: the folder holds no simulation.
    """
    folder = Path(folder)
    config = runfolder.read_config(folder, SimulateConfig)
    summary = finished(folder)
    updates = np.array(recorded(config.steps, config.record_every))
    if summary is None:
        arrays = {track.key: found for number, track in enumerate(tracks(config))
                  if (found := _unfinished(config, track, part_of(folder, number))) is not None}  # fmt: skip
        return Simulation(config, updates, arrays, None)
    try:
        check_archive(folder / TRAJECTORY, "folder", ROWS)
        with np.load(folder / TRAJECTORY, allow_pickle=False) as stored:
            arrays = {track.key: stored[f"log_policy/{track.key}"] for track in tracks(config)}
            return Simulation(config, stored["updates"], arrays, summary)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError("folder", str(folder), f"a run with {TRAJECTORY} beside {SUMMARY}") from error


def _unfinished(config: SimulateConfig, track: Track, part: Path) -> FloatArray | None:
    if not part.is_file():
        return None
    begun = engine.start(ensemble_of(config, track, log_policy_only))
    return on_all_outcomes(engine.load(part, begun).records[:, :, 0], config.problem())
