"""Signal-to-noise of a simulated track's updates at its start and at its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.engine import Ensemble, start
from sharpen.toy.dynamics.measures import mean_interval
from sharpen.toy.dynamics.signal_to_noise import Drawn, closed_form, drawn, enumerated
from sharpen.toy.learners.parts.learner import Options, State
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting

DRAWS = 1024  # repetitions of an update at one state
_STREAM = 2**32 - 2  # separates the draws' random numbers from the runs'
Squares = list[Drawn]


def signal_report(ensemble: Ensemble, objective: Objective, problem: Problem, end: State, seed: int) -> dict[str, Any]:
    """Return |E g| / sqrt(tr Cov g) of a track's updates before the first one and after the last one.

    Args:
        ensemble: The runs of the track, each on its own table.
        objective: What they maximise.
        problem: n outcomes of positive base probability.
        end: The runs' last states, arrays with a leading axis S.
        seed: Of the draws, where there are any.

    Returns:
        ``gradient_snr_method``: ``closed form``, ``enumeration`` or ``draws``, or None for an exact learner, which has
        no noise; ``gradient_snr_start`` and ``gradient_snr``, the latter the root mean square over runs at the end,
        each with an ``_interval``: 95%, over runs, or of the draws if there is one run; None where nothing is random
        or every update is 0.
    """
    machine = ensemble.machine
    names = ("gradient_snr_method", "gradient_snr_start", "gradient_snr_start_interval")
    row: dict[str, Any] = dict.fromkeys((*names, "gradient_snr", "gradient_snr_interval"))
    if LEARNERS.get(machine.kind).exact:
        return row
    first = jax.tree.map(lambda leaf: leaf[:1], start(ensemble).state)
    for method in ("closed form", "enumeration", "draws"):
        found = [_squares(method, ensemble, objective, problem, states, seed) for states in (first, end)]
        begins, ends = found
        if begins is not None and ends is not None:
            row["gradient_snr_method"] = method
            row["gradient_snr_start"], row["gradient_snr_start_interval"] = _root(begins)
            row["gradient_snr"], row["gradient_snr_interval"] = _root(ends)
            break
    return row


def _squares(
    method: str, ensemble: Ensemble, objective: Objective, problem: Problem, states: State, seed: int
) -> Squares | None:
    """Return the squared ratio of each run, or None where the method does not apply."""
    kind, family, options = ensemble.machine.kind, ensemble.machine.family, ensemble.machine.options
    runs = range(len(states.updates))
    at = [jax.tree.map(lambda leaf, run=run: leaf[run], (ensemble.settings, states)) for run in runs]
    if method == "closed form":
        signal = _signals(kind, family, options)
        if signal is None:
            return None
        with jax.enable_x64():
            ratios = [float(signal(setting, state)) for setting, state in at]
    elif method == "enumeration":
        with jax.enable_x64():
            policies = [np.exp(np.asarray(_log_policy(family, setting, state))[0]) for setting, state in at]
        if options.noisy_verifier:  # the theory enumerates samples, not verdicts
            return None
        ratios = [enumerated(kind, objective, problem, policy, options.group_size) for policy in policies]
        if None in ratios:
            return None
    else:
        seeds = np.random.SeedSequence([seed, _STREAM]).generate_state(len(at))
        return [
            drawn(kind, family, options, setting, state, int(one), DRAWS)
            for (setting, state), one in zip(at, seeds, strict=True)
        ]
    return [Drawn(ratio**2, math.nan, math.nan) for ratio in ratios if ratio is not None]


@lru_cache(maxsize=64)
def _signals(kind: str, family: Family, options: Options) -> Callable[[Setting, State], jax.Array] | None:
    """Return the compiled map (setting, state) -> ratio by the learner's closed form; None where it has none."""
    signal = closed_form(kind, family, options)
    if signal is None:
        return None
    return quickly(lambda setting, state: signal(setting, _log_policy(family, setting, state), state))


def _log_policy(family: Family, setting: Setting, state: State) -> jax.Array:
    return family.log_policy(setting, jax.numpy.asarray(state.parameters.theta))


def _root(squares: Squares) -> tuple[float | None, list[float] | None]:
    """Return the root mean square and its interval, cut at 0."""
    numbers = np.array([one.squared for one in squares])
    if not np.all(np.isfinite(numbers)):
        return None, None
    mean, interval = mean_interval(numbers)
    if interval is None and math.isfinite(squares[0].low):
        interval = [squares[0].low, squares[0].high]
    ends = None if interval is None else [math.sqrt(max(end, 0.0)) for end in interval]
    return math.sqrt(max(mean, 0.0)), ends
