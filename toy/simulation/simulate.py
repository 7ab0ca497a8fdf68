"""A simulation's run folder: made, continued, summarised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.objective.storage import files, runfolder
from sharpen.theory.core.flow import limit
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.optimum import optimum
from sharpen.toy.dynamics.engine import (
    Ensemble,
    Machine,
    Progress,
    load,
    log_policy_only,
    recorded,
    run,
    run_keys,
    save,
    stack,
    start,
)
from sharpen.toy.dynamics.measures import fixation, mean_interval, measure
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting, supported, verified
from sharpen.toy.simulation.agreement import verdict
from sharpen.toy.simulation.alarm import entropy_alarm
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.signal_report import signal_report

TRAJECTORY, SUMMARY, PARTS = "trajectory.npz", "summary.json", "parts"
MADE = (TRAJECTORY, SUMMARY, f"{PARTS}/[0-9]*.npz", "figure.png")


@dataclass(frozen=True)
class Track:
    """One objective with one learner.

    Args:
        name: Of the objective.
        objective: What is maximised.
        kind: Of the learner.
    """

    name: str
    objective: Objective
    kind: str

    @property
    def key(self) -> str:
        """What the track's array is called in ``trajectory.npz``."""
        return f"{self.name}/{self.kind}"


def tracks(config: SimulateConfig) -> list[Track]:
    """Return every objective with every learner, in the order of the configuration."""
    return [Track(name, objective, kind) for name, objective in config.objectives.items() for kind in config.learners]


class Computed(NamedTuple):
    """A simulation that is done.

    Args:
        updates: After which there is a record, shape [K].
        arrays: log pi of each track by key, shape [K, S, n].
        summary: What :func:`summarise` says.
    """

    updates: NDArray[np.int64]
    arrays: dict[str, NDArray[np.float64]]
    summary: dict[str, Any]


def simulate(
    config: SimulateConfig,
    out: Path,
    *,
    force: bool = False,
    progress: Callable[[str, int, int], None] = lambda key, done, steps: None,
) -> dict[str, Any]:
    """Run, or continue, a simulation in the folder ``out``.

    The folder gets ``config.yaml``, ``provenance.json``, ``trajectory.npz`` (arrays in docs/toy.md) and
    ``summary.json``. What was finished when a run was killed is not computed again, and the result is the same as
    without the kill, bit by bit.

    Args:
        config: What to run.
        out: Run folder.
        force: Delete an earlier run in ``out`` first.
        progress: Called with a track's key, the updates done and the updates in all.

    Returns:
        The summary.

    Raises:
        InputError: the folder cannot be used, and nothing in it has been touched then; or a run diverged, and nothing
            of it is left.
    """
    with runfolder.opened(out, config, force, MADE):
        return finished(out) or _simulated(config, out, progress)


def finished(out: Path) -> dict[str, Any] | None:
    """Return a finished run's summary; None without one."""
    file = out / SUMMARY
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["tracks"]:
            return found
        raise ValueError("no tracks")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        way_out = "delete it, and the same command computes the run again"
        raise InputError("summary", str(file), f"what a run wrote there ({error}); {way_out}") from error


def _simulated(config: SimulateConfig, out: Path, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    try:
        updates, arrays, summary = compute(config, out, progress)
    except DivergedError:
        runfolder.abandon(out, MADE)
        raise
    problem = config.problem()
    with files.replacing(out / TRAJECTORY) as part, part.open("wb") as stream:
        np.savez_compressed(
            stream,
            allow_pickle=False,
            updates=updates,
            base=problem.base,
            reward=problem.reward,
            length=problem.length,
            **{f"log_policy/{key}": array for key, array in arrays.items()},
        )
    files.write(out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    files.remove_made(out, [f"{PARTS}/[0-9]*.npz"])
    return summary


def compute(
    config: SimulateConfig, out: Path | None, progress: Callable[[str, int, int], None] = lambda key, done, steps: None
) -> Computed:
    """Run every track of a simulation.

    Args:
        config: What to run.
        out: An open run folder in which finished and unfinished tracks are kept, and from which they are continued;
            None keeps nothing.
        progress: Called with a track's key, the updates done and the updates in all.

    Raises:
        DivergedError: a policy is no distribution any more.
    """
    problem = config.problem()
    arrays: dict[str, NDArray[np.float64]] = {}
    updates = np.array(recorded(config.steps, config.record_every))
    signals: dict[str, dict[str, Any]] = {}
    for number, track in enumerate(tracks(config)):
        part = None if out is None else part_of(out, number)
        ensemble = ensemble_of(config, track, log_policy_only)
        reached = begun = start(ensemble)
        for reached in _advance(config, ensemble, begun, part):
            _refuse_divergence(config, track, problem, reached)
            progress(track.key, reached.updates, int(updates[-1]))
        arrays[track.key] = on_all_outcomes(reached.records[:, :, 0], problem)
        signals[track.key] = signal_report(ensemble, track.objective, supported(problem), reached.state, config.seed)
    return Computed(updates, arrays, summarise(config, problem, arrays, signals))


def part_of(out: Path, number: int) -> Path:
    """Return the file in which a track is kept while the run is not finished."""
    return out / PARTS / f"{number:03d}.npz"


def summarise(
    config: SimulateConfig,
    problem: Problem,
    arrays: dict[str, NDArray[np.float64]],
    signals: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return where every track ended and how that compares with the theory.

    Args:
        config: What was run.
        problem: On what.
        arrays: log pi of each track by key, shape [K, S, n].
        signals: The signal-to-noise of each track by key.

    Returns:
        ``version``, ``problem``, and ``tracks``: for each, the end policy (mean over seeds), its measures with 95%
        t-intervals over seeds, the share of runs fixed at each outcome, the ``entropy_alarm``, the signal-to-noise of
        its updates, the theory's limit and optimum, the ``gap`` and the ``verdict`` of
        `sharpen.toy.simulation.agreement` (``noisy`` with noise of the base). The gap is max |policy - limit|, or, for
        a learner that may end anywhere on a face of optima, the mass off that face (``compared_with``).
    """
    rows, judged = [], verified(problem, config.verifier)
    for track in tracks(config):
        log_policy = arrays[track.key]
        log_end = log_policy[-1]  # [S, n]
        policy = np.exp(log_end).mean(axis=0)
        best = optimum(track.objective, judged)
        bent = track.objective.utility != "identity"
        target = best.probabilities if bent else limit(track.objective, judged, problem.base)
        # Only the natural gradient keeps ratios inside a face of optima; the others end somewhere on it.
        learner = LEARNERS.get(track.kind)
        several = not bent or track.objective.coefficients.w_h == 0.0  # a utility's optima beside a KL are no face
        whole_face = learner.field != "natural" and several and not best.unique
        gap = 1.0 - policy[list(best.support)].sum() if whole_face else np.max(np.abs(policy - target))
        face = np.isin(np.arange(problem.n), best.support) if whole_face else None
        # A run whose log p has an error goes elsewhere, by the theory of sensitivity, not of limits.
        said = "noisy" if config.base_noise else verdict(log_policy, target, face, exact=learner.exact)
        row: dict[str, Any] = {
            "objective": track.name,
            "learner": track.kind,
            "spec": track.objective.to_dict(),
            "policy": policy.tolist(),
            "limit": target.tolist(),
            "limit_expected_reward": problem.expected_reward(target),
            "optimum": {"support": list(best.support), "value": best.value, "unique": best.unique},
            "compared_with": "face" if whole_face else "limit",
            "gap": float(gap),
            "verdict": said,
            "seeds": log_end.shape[0],
        }
        for name, numbers in measure(track.objective, problem, log_end, judged).items():
            row[name], row[f"{name}_interval"] = mean_interval(numbers)
        top = log_end.argmax(axis=1), np.exp(log_end.max(axis=1))
        row["fixation"] = fixation(*top, range(problem.n), random=not learner.exact or config.base_noise > 0)
        row["entropy_alarm"] = entropy_alarm(log_policy, np.array(recorded(config.steps, config.record_every)), target)
        row |= signals[track.key]
        rows.append(row)
    return {
        "version": metadata.version("sharpen-rl"),
        "problem": {name: getattr(problem, name).tolist() for name in ("base", "reward", "length")},
        "tracks": rows,
    }


def ensemble_of(config: SimulateConfig, track: Track, observe: Callable[..., Any]) -> Ensemble:
    """Return the runs of a track, on the supported outcomes.

    ``config.seeds`` of them; one of an exact learner without noise of the base.
    """
    eta, options = config.step_size_of(track.kind), config.options(track.objective)
    seeds = 1 if LEARNERS.get(track.kind).exact and config.base_noise == 0 else config.seeds
    machine = Machine(track.kind, SEPARATE, options, observe)
    at = setting(
        track.objective,
        supported(config.problem()),
        eta,
        reward_noise=config.reward_noise,
        base_noise=config.base_noise,
        verifier=config.verifier,
    )
    settings = stack([at] * seeds)
    return Ensemble(machine, settings, run_keys(config.seed, seeds))


def _advance(config: SimulateConfig, ensemble: Ensemble, begun: Progress, part: Path | None) -> Iterator[Progress]:
    """Yield a track's progress, saving each chunk; a track found finished is yielded once."""
    state = load(part, begun) if part is not None and part.exists() else begun
    yield state
    for step in run(ensemble, state, steps=config.steps, record_every=config.record_every):
        if part is not None:
            save(part, step)
        yield step


class DivergedError(InputError):
    """A run's policy is no distribution any more."""


def _refuse_divergence(config: SimulateConfig, track: Track, problem: Problem, reached: Progress) -> None:
    """Refuse the settings if a policy is no distribution any more, or has no J.

    Raises:
        DivergedError: it is so. The same settings would always end like this.
    """
    log_end = on_all_outcomes(reached.records[-1:, :, 0], problem)[0]
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = measure(track.objective, problem, log_end).values()
    if all(np.all(np.isfinite(each)) for each in numbers):
        return
    eta = config.step_size_of(track.kind)
    allowed = f"a smaller one: {track.key} diverged, its policy was no number any more after {reached.updates} updates"
    raise DivergedError("step_size", eta, allowed)


def on_all_outcomes(log_policy: NDArray[np.float64], problem: Problem) -> NDArray[np.float64]:
    """Return log pi of every outcome, minus infinity where the base has none, shape [..., n]."""
    whole = np.full((*log_policy.shape[:-1], problem.n), -np.inf)
    whole[..., problem.support] = log_policy
    return whole
