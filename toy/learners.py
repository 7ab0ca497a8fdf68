"""Updates of a tabular policy, each a pair of pure functions over an explicit state.

A learner is ``init(start) -> State`` and ``step(state, key) -> State``. The advantage vector always comes from the
objective's pseudo-reward, evaluated on every outcome (exact learners) or on the sampled ones.

Axis letters: n outcomes, G samples of one update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.objective import InputError, Objective
from sharpen.theory.problem import Problem


class State(NamedTuple):
    """What an update starts from.

    Args:
        logits: Logits of the policy, shape [n].
        reference: Log-probabilities of p, shape [n]; moves only if the objective's reference does.
        updates: Updates done, an integer scalar.
    """

    logits: Array
    reference: Array
    updates: Array


class Learner(NamedTuple):
    """A way to update the policy.

    Args:
        init: From log-probabilities of the start, shape [n], to the state.
        step: From a state and a random key to the next state.
    """

    init: Callable[[Array], State]
    step: Callable[[State, Array], State]


Direction = Callable[[Array, Array, Array], Array]  # (log pi, log p, key) -> change of the logits per unit of step size


def natural(objective: Objective, problem: Problem, step_size: float, group_size: int) -> Learner:
    """Exact natural gradient: theta <- theta + eta A, mirror descent on the simplex.

    The Euler step of the replicator equation d pi/dt = pi (A - E_pi A) in log space. With entropy, A contains
    -w_h log pi, so a step multiplies log pi by 1 - eta w_h: for eta w_h > 1 it overshoots, and from 2 it diverges.

    Raises:
        InputError: eta w_h >= 2.
    """
    w_h = objective.coefficients.w_h
    if step_size * w_h >= 2.0:
        raise InputError("step_size", step_size, f"below {2.0 / w_h:g} for the natural gradient, since eta w_h < 2")

    def direction(log_pi: Array, log_p: Array, key: Array) -> Array:
        return _advantage(objective, problem, log_pi, log_p)

    return _learner(objective, problem, step_size, direction)


def softmax(objective: Objective, problem: Problem, step_size: float, group_size: int) -> Learner:
    """Exact softmax ("vanilla") policy gradient: theta <- theta + eta pi (A - E_pi A)."""

    def direction(log_pi: Array, log_p: Array, key: Array) -> Array:
        A, pi = _advantage(objective, problem, log_pi, log_p), jnp.exp(log_pi)
        return pi * (A - pi @ A)

    return _learner(objective, problem, step_size, direction)


def rloo(objective: Objective, problem: Problem, step_size: float, group_size: int) -> Learner:
    """Sampled RLOO: theta <- theta + (eta/G) sum_g A_g grad log pi(x_g), A_g = R_g - mean of the other R (Kool 2019).

    G samples from the current policy, pseudo-rewards R without gradient, no division by the standard deviation. The
    expected update is that of :func:`softmax`.

    Raises:
        InputError: fewer than two samples.
    """
    if group_size < 2:
        raise InputError("group_size", group_size, "at least 2: the baseline is the mean of the other samples")

    def direction(log_pi: Array, log_p: Array, key: Array) -> Array:
        samples_G = jax.random.categorical(key, log_pi, shape=(group_size,))
        return rloo_direction(_advantage(objective, problem, log_pi, log_p), log_pi, samples_G)

    return _learner(objective, problem, step_size, direction)


def rloo_direction(pseudo_reward: Array, log_pi: Array, samples_G: Array) -> Array:
    """Return (1/G) sum_g A_g (onehot(x_g) - pi) for the given samples, shape [n].

    Args:
        pseudo_reward: R of every outcome, shape [n].
        log_pi: Log-probabilities of the policy, shape [n].
        samples_G: Sampled outcomes, shape [G].
    """
    G = samples_G.shape[0]
    rewards_G = pseudo_reward[samples_G]
    advantages_G = (rewards_G - rewards_G.mean()) * (G / (G - 1))
    # The -pi term drops out, because the leave-one-out advantages of a group sum to zero.
    return jnp.zeros_like(log_pi).at[samples_G].add(advantages_G / G)


LEARNERS: dict[str, Callable[[Objective, Problem, float, int], Learner]] = {
    "natural": natural,
    "softmax": softmax,
    "rloo": rloo,
}


def _learner(objective: Objective, problem: Problem, step_size: float, direction: Direction) -> Learner:
    every = objective.refresh_every

    def init(start: Array) -> State:
        return State(start, jnp.asarray(problem.log_base), jnp.zeros((), dtype=jnp.int64))

    def step(state: State, key: Array) -> State:
        log_pi = jax.nn.log_softmax(state.logits)
        # For `policy`, p is replaced before every update; refresh:K replaces it after every K-th one.
        log_p = log_pi if objective.reference == "policy" else state.reference
        logits = jax.nn.log_softmax(state.logits + step_size * direction(log_pi, log_p, key))
        updates = state.updates + 1
        due = jnp.logical_and(every is not None, updates % (every or 1) == 0)
        return State(logits, jnp.where(due, logits, state.reference), updates)

    return Learner(init, step)


def _advantage(objective: Objective, problem: Problem, log_pi: Array, log_p: Array) -> Array:
    return objective.pseudo_reward(
        reward=jnp.asarray(problem.reward),
        ref_logprob=log_p,
        policy_logprob=log_pi,
        length=jnp.asarray(problem.length),
    )
