"""Runs many learners at once and records them.

Axis letters: K records, R runs, P prompts, n outcomes of a prompt.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sharpen.objective import InputError
from sharpen.objective.storage import files
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.updates import Update, base_error, initial, leaps, make
from sharpen.toy.learners.parts.learner import Options, State
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting

Tree = Any  # a pytree of arrays
CHUNK_UPDATES = 200_000  # updates x runs between two yields; seconds at most
BLOCK_NUMBERS = 8192  # of one array of the runs that advance together: with the others it fits the second cache
_RECORD_KEY = 2**32 - 1  # updates stay below it


class Machine(NamedTuple):
    """What is compiled once for all its runs; hashable.

    Args:
        kind: Name of the learner.
        family: Of the policies.
        options: Of the learner.
        observe: What a record holds, from a setting, log pi [P, n] and the state to a pytree of arrays.
        precision: ``float64`` or ``float32``, of settings, states and records.
    """

    kind: str
    family: Family
    options: Options
    observe: Callable[[Setting, jax.Array, State], Tree]
    precision: str = "float64"


class Ensemble(NamedTuple):
    """R runs of one learner, which differ in their settings and their seeds.

    Args:
        machine: The learner.
        settings: A :class:`Setting` whose arrays have a leading axis R.
        keys: Seeds of the runs, shape [R]; a run's numbers depend on its own seed and setting only.
    """

    machine: Machine
    settings: Setting
    keys: np.ndarray


class Progress(NamedTuple):
    """Runs up to some update: all that continuing them needs.

    Args:
        state: A :class:`State` whose arrays have a leading axis R.
        updates: Updates done.
        records: What was observed, each array of shape [K, R, ...]; the first record is the start.
    """

    state: Tree
    updates: int
    records: Tree


def stack(settings: list[Setting]) -> Setting:
    """Return several settings as one with a leading axis.

    Example:
        >>> from sharpen.objective import PRESETS
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> from sharpen.toy.problems.setting import setting
        >>> one = setting(PRESETS["tempered"], DEFAULT_PROBLEM, 0.1)
        >>> stack([one, one]).reward.shape
        (2, 1, 5)
    """
    return Setting(*(np.stack(parts) for parts in zip(*settings, strict=True)))


def start(ensemble: Ensemble) -> Progress:
    """Return the progress before the first update, every run at the base."""
    machine = ensemble.machine
    noisy = bool(np.any(ensemble.settings.base_noise))
    begin = _beginning(machine.family, machine.options.optimizer, machine.observe, machine.precision, noisy)
    with jax.enable_x64():
        state, record = begin(ensemble.settings, ensemble.keys)
        host = partial(jax.tree.map, np.asarray)
        return Progress(host(state), 0, host(jax.tree.map(lambda leaf: leaf[None], record)))


def run(ensemble: Ensemble, progress: Progress, *, steps: int, record_every: int) -> Iterator[Progress]:
    """Advance runs to ``steps`` updates, yielding the progress after each chunk.

    The random key of an update is a function of the run's seed and the update, so runs continued from any yielded
    progress give the same numbers as runs that were never stopped. The end is always recorded, see :func:`recorded`.

    Args:
        ensemble: What to run.
        progress: Where to start.
        steps: Updates in all.
        record_every: Updates between two records.
    """
    records = steps // record_every
    steps_of_record = 1 if _leaps(ensemble.machine) else record_every
    most = max(1, CHUNK_UPDATES // (steps_of_record * len(ensemble.keys)))
    advance = _advance(ensemble.machine, record_every)
    while (done := progress.updates // record_every) < records:
        count = min(most, records - done)
        with jax.enable_x64():
            state, seen = advance(ensemble.settings, ensemble.keys, progress.state, count)
            state, seen = jax.tree.map(np.asarray, (state, seen))
        joined = jax.tree.map(lambda old, new: np.concatenate([old, np.moveaxis(new, 0, 1)]), progress.records, seen)
        progress = Progress(state, progress.updates + count * record_every, joined)
        yield progress
    if progress.updates < steps:  # what is left after the last whole record
        yield from run_at(ensemble, progress, [steps])


def recorded(steps: int, record_every: int) -> list[int]:
    """Return the updates after which :func:`run` records: 0, every ``record_every``, and the end.

    Example:
        >>> recorded(25, 10), recorded(9, 10)
        ([0, 10, 20, 25], [0, 9])
    """
    return sorted({*range(0, steps + 1, record_every), steps})


def run_at(ensemble: Ensemble, progress: Progress, at: Sequence[int]) -> Iterator[Progress]:
    """Advance runs and record them after chosen numbers of updates, yielding the progress after each chunk.

    As :func:`run`, for records that are not evenly spaced: nothing in between is observed or stored.

    Args:
        ensemble: What to run.
        progress: Where to start.
        at: Updates after which to record, increasing; those that ``progress`` has passed are not recorded again.
    """
    # A leap goes from record to record: where it stops in between would show in the last digit.
    most = max(at, default=1) if _leaps(ensemble.machine) else max(1, CHUNK_UPDATES // len(ensemble.keys))
    advance = _advance_by(ensemble.machine)
    for target in at:
        while progress.updates < target:
            count = min(most, target - progress.updates)
            with jax.enable_x64():
                state, seen = advance(ensemble.settings, ensemble.keys, progress.state, count)
                state, seen = jax.tree.map(np.asarray, (state, seen))
            records, updates = progress.records, progress.updates + count
            if updates == target:
                records = jax.tree.map(lambda old, new: np.concatenate([old, new[None]]), records, seen)
            progress = Progress(state, updates, records)
            yield progress


@lru_cache(maxsize=64)
def _beginning(
    family: Family, optimizer: str, observe: Callable[[Setting, jax.Array, State], Tree], precision: str, noisy: bool
) -> Callable[..., tuple[State, Tree]]:
    """Return the map (settings [R], keys [R]) -> (states, first records), one for all learners that start alike.

    Errors of the base are drawn only where one is ``noisy``: to compile a draw takes longer than all the rest.
    """

    def begin(setting: Setting, seed: jax.Array) -> tuple[State, Tree]:
        setting = _in_precision(precision, setting)
        error = base_error(setting, jax.random.fold_in(jax.random.key(seed), _RECORD_KEY)) if noisy else None
        state = initial(setting, family, optimizer, error)
        return state, observe(setting, family.log_policy(setting, state.parameters.theta), state)

    return quickly(jax.vmap(begin))


@lru_cache(maxsize=64)
def _advance(machine: Machine, record_every: int) -> Callable[..., tuple[State, Tree]]:
    """Return the jitted map (settings [R], keys [R], states [R], count) -> (states, records [R, count, ...])."""

    def one_run(setting: Setting, seed: jax.Array, state: State, count: int) -> tuple[State, Tree]:
        setting = _in_precision(machine.precision, setting)
        learner = make(machine.kind, setting, machine.family, machine.options)
        leap = None if learner.leap is None else learner.leap(state, jnp.asarray(record_every))
        update = _update(learner, seed)

        def record(state: State, _: None) -> tuple[State, Tree]:
            if leap is not None:
                state = leap(state)
            else:
                state, _ = jax.lax.scan(lambda state, _: (update(state), None), state, None, record_every)
            return state, _observe(machine, setting, state)

        return jax.lax.scan(record, state, None, length=count)

    def all_runs(settings: Setting, keys: jax.Array, states: State, count: int) -> tuple[State, Tree]:
        return _by_blocks(machine, partial(one_run, count=count), settings, keys, states)

    return _compiled(machine, all_runs, static_argnums=3)


@lru_cache(maxsize=64)
def _advance_by(machine: Machine) -> Callable[..., tuple[State, Tree]]:
    """Return the jitted map (settings [R], keys [R], states [R], updates) -> (states, one record [R, ...])."""

    def one_run(setting: Setting, seed: jax.Array, state: State, count: jax.Array) -> tuple[State, Tree]:
        setting = _in_precision(machine.precision, setting)
        learner = make(machine.kind, setting, machine.family, machine.options)
        if learner.leap is not None:
            state = learner.leap(state, count)(state)
        else:
            update = _update(learner, seed)
            state = jax.lax.fori_loop(0, count, lambda _, state: update(state), state)  # compiled once for every count
        return state, _observe(machine, setting, state)

    def all_runs(settings: Setting, keys: jax.Array, states: State, count: jax.Array) -> tuple[State, Tree]:
        return _by_blocks(machine, partial(one_run, count=count), settings, keys, states)

    return _compiled(machine, all_runs)


def _compiled(machine: Machine, all_runs: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    # A leap has no loop over updates, whose speed would be worth a thorough compilation.
    return quickly(all_runs, busy=True, **options) if _leaps(machine) else jax.jit(all_runs, **options)


def _leaps(machine: Machine) -> bool:
    return leaps(machine.kind, machine.family, machine.options)


def _update(learner: Update, seed: jax.Array) -> Callable[[State], State]:
    key = jax.random.key(seed)
    return lambda state: learner.step(state, jax.random.fold_in(key, state.updates))


def _by_blocks(
    machine: Machine,
    one_run: Callable[[Setting, jax.Array, State], tuple[State, Tree]],
    settings: Setting,
    keys: jax.Array,
    states: State,
) -> tuple[State, Tree]:
    prompts, outcomes = settings.log_base[0].shape
    together = block(len(keys), numbers(machine, prompts, outcomes))
    if together == len(keys):
        return jax.vmap(one_run)(settings, keys, states)

    def one_block(run: tuple[Setting, jax.Array, State]) -> tuple[State, Tree]:
        return one_run(*run)

    return jax.lax.map(one_block, (settings, keys, states), batch_size=together)


def numbers(machine: Machine, prompts: int, outcomes: int) -> int:
    """Return the size of the largest array in an update of one run."""
    logits = prompts * outcomes
    learner = LEARNERS.get(machine.kind)
    if learner.exact:
        natural = learner.field == "natural" and not machine.family.separate
        return logits * max(1, machine.family.parameters or outcomes) if natural else logits
    return max(logits, prompts * machine.options.group_size, machine.family.parameters)


def block(runs: int, size: int) -> int:
    """Return how many runs with arrays of ``size`` numbers advance together, one block after the other.

    A divisor of ``runs`` where there is one of the right size, so that no shorter block is compiled.

    Example:
        >>> block(2000, 64), block(256, 5), block(7, 10**6)
        (125, 256, 1)
    """
    most = max(1, min(runs, BLOCK_NUMBERS // size))
    divisor = max(width for width in range(1, most + 1) if runs % width == 0)
    return divisor if 2 * divisor > most else most


def _in_precision(precision: str, setting: Setting) -> Setting:
    def cast(part: Any) -> jax.Array:
        array = jnp.asarray(part)
        return array.astype(precision) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(cast, setting)


def _observe(machine: Machine, setting: Setting, state: State) -> Tree:
    return machine.observe(setting, machine.family.log_policy(setting, state.parameters.theta), state)


def log_policy_only(setting: Setting, log_pi: jax.Array, state: State) -> jax.Array:
    """Observe log pi itself, shape [P, n]."""
    return jnp.asarray(log_pi)


def run_keys(seed: int, runs: int) -> np.ndarray:
    """Return the seeds of runs 0 to runs - 1, shape [runs]; run s has the same one whatever ``runs`` is."""
    return np.array([np.random.SeedSequence([seed, s]).generate_state(1, np.uint64)[0] >> 1 for s in range(runs)])


def save(file: Path, progress: Progress) -> None:
    """Write a progress so that a reader, or a run after a kill, sees all of it or none."""
    leaves = jax.tree.leaves(progress)
    with files.replacing(file) as part, part.open("wb") as stream:
        named = {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
        np.savez(stream, allow_pickle=False, updates=progress.updates, **named)


def load(file: Path, like: Progress) -> Progress:
    """Return what :func:`save` wrote, in the structure of ``like``.

    Raises:
        InputError: the file holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            leaves = [stored[f"leaf{i}"] for i in range(len(stored.files) - 1)]
            progress = jax.tree.unflatten(jax.tree.structure(like), leaves)
            return progress._replace(updates=int(stored["updates"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        way_out = "delete it, and the same command computes that part again"
        raise InputError("part", str(file), f"what a run saved there ({error}); {way_out}") from error
