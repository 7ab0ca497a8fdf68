"""Families of tabular policies: from parameters to log-probabilities of every outcome of every prompt.

Axis letters: P prompts, n outcomes, d parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sharpen.objective import InputError
from sharpen.theory.problem import SUM_TOLERANCE, FloatArray, Problem
from sharpen.toy.setting import Setting

MOST_SEQUENCES = 100_000


class Family(NamedTuple):
    """A way to write policies. Hashable, so that computations compiled for a family are found again.

    Args:
        start: From a setting to the parameters at which the policy is the base.
        log_policy: From a setting and parameters to log pi, shape [P, n].
        separate: Whether every outcome of every prompt has a logit of its own, so that the natural gradient is the
            advantage itself.
    """

    start: Callable[[Setting], Array]
    log_policy: Callable[[Setting, Array], Array]
    separate: bool


# A logit for each outcome of each prompt: theta [P, n].
SEPARATE = Family(lambda at: jnp.asarray(at.log_base), lambda at, logits: jax.nn.log_softmax(logits, axis=-1), True)

# One shift of the base's logits that all prompts share, log pi = log softmax(log p + theta): theta [n].
SHARED = Family(
    lambda at: jnp.zeros(at.log_base.shape[-1], jnp.asarray(at.log_base).dtype),
    lambda at, shift: jax.nn.log_softmax(jnp.asarray(at.log_base) + shift, axis=-1),
    False,
)


def sequences(
    tokens: FloatArray, hazard: float, longest: int, correct: int | None = None, *, by_position: bool
) -> tuple[Problem, Family]:
    """Return all token sequences up to a length, under i.i.d. tokens, and an autoregressive policy over them.

    A sequence stops with probability ``hazard`` before every token, and is cut, without choosing to stop, after
    ``longest`` tokens. Its length counts the stop token, and a cut sequence as long as one that stops next.

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
    V = len(tokens)
    if not 0.0 < hazard < 1.0:
        raise InputError("hazard", hazard, "a number between 0 and 1")
    if abs(float(np.sum(tokens)) - 1.0) > SUM_TOLERANCE:
        raise InputError("tokens", float(np.sum(tokens)), "probabilities whose sum is 1")
    if correct is not None and not 0 <= correct < V:
        raise InputError("correct", correct, f"the index of a token, 0 to {V - 1}")
    if V**longest > MOST_SEQUENCES or longest < 1:
        raise InputError("longest", longest, f"1 or more, with at most {MOST_SEQUENCES} sequences")
    names = [name for size in range(longest + 1) for name in itertools.product(range(V), repeat=size)]
    states = {name: i if by_position else 0 for i, name in enumerate(n for n in names if len(n) < longest)}
    width = V + 1
    counts = np.zeros((len(names), (max(states.values()) + 1) * width))
    for row, name in enumerate(names):
        for place, token in enumerate(name):
            counts[row, states[name[:place]] * width + token] += 1
        if len(name) < longest:
            counts[row, states[name] * width + V] += 1
    start = np.tile(np.log(np.append((1 - hazard) * np.asarray(tokens), hazard)), counts.shape[1] // width)
    log_base = counts @ start
    reward = [float(correct is not None and name[-1:] == (correct,)) for name in names]
    problem = Problem.from_log(log_base, reward, [len(name) + 1 for name in names])

    def log_policy(_: Setting, logits: Array) -> Array:
        log_tokens = jax.nn.log_softmax(logits.reshape(-1, width), axis=-1).ravel()
        return (jnp.asarray(counts, logits.dtype) @ log_tokens)[None]

    return problem, Family(lambda at: jnp.asarray(start, jnp.asarray(at.log_base).dtype), log_policy, False)
