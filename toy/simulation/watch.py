"""A simulation that is looked at while it runs: every track advances together, a few updates at a time.

Nothing is written. Axis letters: K records, S runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.toy.dynamics.engine import Ensemble, run, start
from sharpen.toy.dynamics.measures import mean_interval
from sharpen.toy.dynamics.observe import observer
from sharpen.toy.dynamics.signal_to_noise import closed_form
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.simulate import Track, ensemble_of, tracks

WATCHED = ("entropy", "expected_reward", "kl_base", "top1", "effective_alpha", "gradient_snr")


class Series(NamedTuple):
    """One measure of one track so far.

    Args:
        mean: Over runs, at every record, shape [K]; NaN where a run has no number.
        half: Half the 95% t-interval over runs at the last record; None for a single run.
    """

    mean: NDArray[np.float64]
    half: float | None


class Frame(NamedTuple):
    """A simulation at some update.

    Args:
        updates: Done.
        of: Updates in all.
        series: By track, ``objective/learner``, and measure, those of ``WATCHED``.
    """

    updates: int
    of: int
    series: dict[str, dict[str, Series]]


def watch(config: SimulateConfig, every: int) -> Iterator[Frame]:
    """Run a simulation and yield it before the first update, after every ``every`` updates and at the end.

    Args:
        config: What to run; its ``record_every`` is not used. The runs are those of ``simulate``: the same numbers.
        every: Updates between two frames.

    Raises:
        InputError: a learner cannot run with these settings, or ``every`` is not between 1 and the number of updates.
    """
    if not 1 <= every <= config.steps:
        raise InputError("every", every, f"a whole number from 1 to {config.steps}, the updates in all")
    runs = {track.key: _ensemble(config, track) for track in tracks(config)}
    reached = {key: start(ensemble) for key, ensemble in runs.items()}
    while True:
        updates = next(iter(reached.values())).updates
        yield Frame(updates, config.steps, {key: _series(progress.records) for key, progress in reached.items()})
        if updates >= config.steps:
            return
        for key, ensemble in runs.items():
            for step in run(ensemble, reached[key], steps=min(updates + every, config.steps), record_every=every):
                reached[key] = step


def _ensemble(config: SimulateConfig, track: Track) -> Ensemble:
    ensemble = ensemble_of(config, track, observer(()))
    machine = ensemble.machine
    signal = closed_form(machine.kind, machine.family, machine.options)
    return ensemble._replace(machine=machine._replace(observe=observer((), signal)))


def _series(records: dict[str, NDArray[np.float64]]) -> dict[str, Series]:
    found = {}
    for name in WATCHED:
        recorded = records[name]  # [K, S]
        interval = mean_interval(recorded[-1])[1]
        found[name] = Series(recorded.mean(axis=1), None if interval is None else (interval[1] - interval[0]) / 2)
    return found
