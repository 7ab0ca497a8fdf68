"""Runs a learner and records it.

Axis letters: K records, S seeds, n outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from sharpen.toy.learners import Learner, State

CHUNK_UPDATES = 200_000  # updates x seeds between two saves; seconds at most


class Progress(NamedTuple):
    """A run up to some update: all that a continued run needs.

    Args:
        logits: Logits of each seed's policy, shape [S, n].
        reference: Log-probabilities of each seed's p, shape [S, n].
        updates: Updates done.
        log_policy: Recorded log-probabilities, shape [K, S, n]; the first record is the start.
    """

    logits: NDArray[np.float64]
    reference: NDArray[np.float64]
    updates: int
    log_policy: NDArray[np.float64]


def start(learner: Learner, log_start: NDArray[np.float64], seeds: int) -> Progress:
    """Return the progress before the first update; every seed starts from ``log_start``, shape [n]."""
    with jax.enable_x64():
        state = learner.init(jnp.asarray(log_start))
    tile = partial(np.tile, reps=(seeds, 1))
    logits, reference = tile(np.asarray(state.logits)), tile(np.asarray(state.reference))
    return Progress(logits, reference, 0, logits[None])


def run(learner: Learner, progress: Progress, *, steps: int, record_every: int, seed: int) -> Iterator[Progress]:
    """Advance a run to ``steps`` updates, yielding the progress after each chunk.

    The random key of an update is a function of (seed, run, update), so a run continued from any yielded progress gives
    the same numbers as one that was never stopped. Updates after the last whole record are not done.

    Args:
        learner: What to run.
        progress: Where to start.
        steps: Updates in all.
        record_every: Updates between two records.
        seed: Of all runs; run s uses the s-th key split from it.
    """
    records = steps // record_every
    seeds = progress.logits.shape[0]
    most = max(1, CHUNK_UPDATES // (record_every * seeds))
    with jax.enable_x64():
        keys = jax.random.split(jax.random.key(seed), seeds)
        advance = _compiled(learner, record_every)
        while (done := progress.updates // record_every) < records:
            count = min(most, records - done)
            updates = jnp.full(seeds, progress.updates)
            state = State(jnp.asarray(progress.logits), jnp.asarray(progress.reference), updates)
            state, recorded_SKn = advance(state, keys, count)
            recorded = np.asarray(recorded_SKn).transpose(1, 0, 2)
            progress = Progress(
                np.asarray(state.logits),
                np.asarray(state.reference),
                progress.updates + count * record_every,
                np.concatenate([progress.log_policy, recorded]),
            )
            yield progress


def _compiled(learner: Learner, record_every: int) -> Callable[[State, jax.Array, int], tuple[State, jax.Array]]:
    """Return the jitted map (states [S], keys [S], count) -> (states, log-probabilities [S, count, n])."""

    def one_run(state: State, key: jax.Array, count: int) -> tuple[State, jax.Array]:
        def update(state: State, _: None) -> tuple[State, None]:
            return learner.step(state, jax.random.fold_in(key, state.updates)), None

        def record(state: State, _: None) -> tuple[State, jax.Array]:
            state, _ = jax.lax.scan(update, state, None, length=record_every)
            return state, jax.nn.log_softmax(state.logits)

        return jax.lax.scan(record, state, None, length=count)

    def all_runs(state: State, key: jax.Array, count: int) -> tuple[State, jax.Array]:
        return jax.vmap(partial(one_run, count=count))(state, key)

    return jax.jit(all_runs, static_argnums=2)
