"""Autoregressive policies over token sequences: finite-state machines with a stop token, and trees of prefixes.

Axis letters: P prompts, S states of the machine, V tokens, n sequences, d parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError
from sharpen.theory.core.problem import SUM_TOLERANCE, FloatArray, Problem
from sharpen.theory.sequences.model import MarkovModel
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting

MOST_SEQUENCES = 100_000
MOST_COUNTS = 3 * 10**7  # entries of the table of visits, 240 MB
FORBIDDEN = -1e30  # a logit that no softmax gives any mass, and whose gradient is 0 where that of -inf is NaN
Name = tuple[int, ...]


class Automaton(NamedTuple):
    """A finite-state machine that emits a token or stops in every state.

    Args:
        token: Probability of every token, shape [S, V].
        stop: Probability of the stop token, shape [S]; with the state's tokens it sums to 1.
        move: State after every token, shape [S, V].
    """

    token: FloatArray
    stop: FloatArray
    move: NDArray[np.int64]


class Sequences(NamedTuple):
    """All sequences up to a length, and a policy over them.

    Args:
        names: The tokens of each sequence, in order of length; n of them.
        log_base: Their log-probabilities for each prompt, shape [P, n].
        family: Of policies with a logit for every token and the stop (the last) in every state.
    """

    names: list[Name]
    log_base: FloatArray
    family: Family


def independent(tokens: ArrayLike, hazard: float) -> Automaton:
    """Return the machine with one state: independent tokens, and a stop with probability ``hazard`` before each.

    Raises:
        InputError: a number is out of range.
    """
    q = np.asarray(tokens, dtype=np.float64)
    if not 0.0 < hazard < 1.0:
        raise InputError("hazard", hazard, "a number between 0 and 1")
    if abs(float(np.sum(q)) - 1.0) > SUM_TOLERANCE:
        raise InputError("tokens", float(np.sum(q)), "probabilities whose sum is 1")
    return Automaton((1 - hazard) * q[None], np.array([hazard]), np.zeros((1, q.size), dtype=np.int64))


def markov(model: MarkovModel) -> Automaton:
    """Return a Markov chain as a machine: the token that a transition emits is the state it leads to."""
    token = np.asarray(model.transition.todense(), dtype=np.float64)
    return Automaton(token, np.exp(model.log_stop), np.tile(np.arange(model.n), (model.n, 1)))


def enumerate_sequences(
    machine: Automaton, longest: int, *, by_prefix: bool, starts: Sequence[int] = (0,)
) -> Sequences:
    """Return all token sequences up to a length, and the machine as a policy over them.

    A sequence is cut, without choosing to stop, after ``longest`` tokens. Tokens of probability 0 stay impossible.

    Args:
        machine: The base.
        longest: Tokens of the longest sequence.
        by_prefix: A state of the policy's own for each prefix of each prompt (a tree), or the machine's states, which
            prompts that reach them share.
        starts: Start state of each prompt, P of them.

    Raises:
        InputError: a start is no state, prompts do not have the same sequences, or there are too many.
    """
    S = len(machine.stop)
    for start in starts:
        if not 0 <= start < S:
            raise InputError("start", start, f"a state, 0 to {S - 1}")
    if longest < 1:
        raise InputError("longest", longest, "1 or more")
    visits = [_visits(machine, longest, start) for start in starts]
    names = list(visits[0])
    for start, other in zip(starts, visits, strict=True):
        if list(other) != names:
            raise InputError("start", start, "states from which the same sequences are possible")
    states: dict[object, int] = {}  # of the policy -> row
    machine_state: list[int] = []
    entries: list[tuple[int, int, int, int]] = []  # prompt, sequence, state's row, token
    for prompt, sequences in enumerate(visits):
        for row, path in enumerate(sequences.values()):
            for prefix, state, token in path:
                own = (prompt, prefix) if by_prefix else state
                if own not in states:
                    states[own] = len(states)
                    machine_state.append(state)
                entries.append((prompt, row, states[own], token))
    width = machine.token.shape[1] + 1
    if len(starts) * len(names) * len(states) * width > MOST_COUNTS:
        raise InputError("longest", longest, "fewer sequences or states: their table of visits would not fit")
    counts = np.zeros((len(starts), len(names), len(states), width))
    np.add.at(counts, tuple(np.array(entries).T), 1.0)
    probability = np.append(machine.token, machine.stop[:, None], axis=1)[machine_state]
    return _with_policy(names, counts.reshape(len(starts), len(names), -1), probability)


def _visits(machine: Automaton, longest: int, start: int) -> dict[Name, list[tuple[Name, int, int]]]:
    """Return for each possible sequence its (prefix, state, token) steps, the stop being token V."""
    V = machine.token.shape[1]
    found: dict[Name, list[tuple[Name, int, int]]] = {}
    level: list[tuple[Name, int, list[tuple[Name, int, int]]]] = [((), start, [])]
    for size in range(longest + 1):
        longer = []
        for name, state, path in level:
            if size == longest:
                found[name] = path
                continue
            if machine.stop[state] > 0:
                found[name] = [*path, (name, state, V)]
            for token in np.flatnonzero(machine.token[state] > 0).tolist():
                longer.append(((*name, token), int(machine.move[state, token]), [*path, (name, state, token)]))
        if len(found) + len(longer) > MOST_SEQUENCES:
            raise InputError("longest", longest, f"1 or more, with at most {MOST_SEQUENCES} sequences")
        level = longer
    return found


def _with_policy(names: list[Name], counts: FloatArray, probability: FloatArray) -> Sequences:
    width, allowed = probability.shape[1], probability > 0
    start = np.log(probability, out=np.zeros_like(probability), where=allowed)
    log_base = counts @ start.ravel()

    def log_policy(_: Setting, logits: Array) -> Array:
        log_tokens = jax.nn.log_softmax(jnp.where(allowed, logits.reshape(-1, width), FORBIDDEN), axis=-1)
        return jnp.asarray(counts, logits.dtype) @ jnp.where(allowed, log_tokens, 0.0).ravel()

    def begin(at: Setting) -> Array:
        return jnp.asarray(start.ravel(), jnp.asarray(at.log_base).dtype)

    return Sequences(names, log_base, Family(begin, log_policy, False, start.size))


def lengths(names: list[Name]) -> FloatArray:
    """Return the lengths, shape [n]: the stop token counts, and a cut sequence is as long as one that stops next."""
    return np.array([len(name) + 1.0 for name in names])


def sequences(
    tokens: FloatArray, hazard: float, longest: int, correct: int | None = None, *, by_position: bool
) -> tuple[Problem, Family]:
    """Return the sequences of independent tokens as a problem, with a policy over them.

    Args:
        tokens: Probabilities of the V tokens, shape [V].
        hazard: Probability of the stop token in every state.
        longest: Tokens of the longest sequence.
        correct: The reward is 1 for sequences whose last token is this one; None for no reward at all.
        by_position: A state for each prefix (a tree) if true, one state for all (a finite-state machine) if false.

    Returns:
        The problem over the sequences, and the policy with V + 1 logits (the last is the stop) in each state.

    Raises:
        InputError: a number is out of range, or there are too many sequences.
    """
    found = enumerate_sequences(independent(tokens, hazard), longest, by_prefix=by_position)
    reward = ends_in(found.names, correct, len(tokens))
    return Problem.from_log(found.log_base[0], reward, lengths(found.names)), found.family


def ends_in(names: list[Name], token: int | None, V: int) -> FloatArray:
    """Return the reward 1 for sequences whose last token is ``token``, shape [n]; 0 for all where it is None.

    Raises:
        InputError: the machine has no such token.
    """
    if token is not None and not 0 <= token < V:
        raise InputError("correct", token, f"the index of a token, 0 to {V - 1}")
    return np.array([float(token is not None and name[-1:] == (token,)) for name in names])
