"""Runs of a learner from chosen starts on the simplex, recorded often enough to be watched.

Axis letters: K records, S runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, run_at, run_keys, stack, start
from sharpen.toy.dynamics.updates import check
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting

MOST_RUNS = 10_000


def runs_from(
    objective: Objective,
    problem: Problem,
    learner: str,
    starts: FloatArray,
    *,
    options: Options,
    step_size: float,
    steps: int,
    records: int,
    seed: int = 0,
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return updates, shape [K], and policies, shape [K, S, 3], of one run from each start.

    The frozen reference is the base, wherever a run starts. A run's numbers depend on its start, its place in
    ``starts`` and ``seed`` only.

    Args:
        objective: What is maximised.
        problem: n outcomes of positive base probability.
        learner: Its name.
        starts: Policies with full support, shape [S, n].
        options: Of the learner; its ``reference_moves`` is set from the objective.
        step_size: eta.
        steps: Updates.
        records: Records after the first; at most ``steps``.
        seed: Of all random numbers.

    Raises:
        InputError: the learner cannot run, a number is out of range, or a start has a probability that is not positive.
    """
    objective.refuse_utility("the toy's phase portraits")
    options = options._replace(reference_moves=objective.refresh_every is not None, noisy_reward=False)
    check(learner, options, objective.coefficients.w_h, step_size, separate=True)
    if not 1 <= records <= steps:
        raise InputError("frames", records, f"a whole number from 1 to the {steps} updates")
    if not np.all((starts > 0) & (starts < 1)) or not 1 <= len(starts) <= MOST_RUNS:
        raise InputError("starts", len(starts), f"1 to {MOST_RUNS} policies with positive probabilities")
    every = max(1, steps // records)
    settings = stack([setting(objective, problem, step_size)] * len(starts))
    ensemble = Ensemble(Machine(learner, SEPARATE, options, log_policy_only), settings, run_keys(seed, len(starts)))
    begun = start(ensemble)
    logits = np.log(starts)[:, None]  # [S, 1, n]
    # Only the policy starts elsewhere; p stays what the problem says, unless it follows the policy anyway.
    parameters = begun.state.parameters._replace(theta=logits)
    begun = begun._replace(state=begun.state._replace(parameters=parameters, behaviour=logits), records=logits[None])
    at = np.linspace(0, steps, records + 1).round().astype(np.int64)
    if every * records == steps:
        *_, last = run(ensemble, begun, steps=steps, record_every=every)
    else:
        *_, last = run_at(ensemble, begun, at[1:].tolist())
    return at, np.exp(np.asarray(last.records)[:, :, 0])
