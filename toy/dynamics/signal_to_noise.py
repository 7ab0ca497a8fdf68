"""Signal-to-noise ratio of a learner's update: |E g| / sqrt(tr Cov g) for the random gradient g of one update.

g is a vector over the logits of a table, its norm Euclidean. Three ways, by what the learner allows:

- :func:`closed_form` for learners that bring one (``reinforce``, ``rloo``), at any number of outcomes and samples;
- `sharpen.theory.estimators.exact` visits every group of samples, for ``grpo`` on few outcomes;
- :func:`drawn` repeats the learner's own update from a state, for all the others, with an interval.

Axis letters: P prompts, n outcomes of a prompt, G samples of a prompt, D draws, B blocks of draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.estimators import exact as enumeration
from sharpen.toy.dynamics.measures import student_t
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.estimates import total_reward
from sharpen.toy.learners.parts.learner import Batch, Moments, Options, SampledLearner, State, log_reference
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting

Signal = Callable[[Setting, Array, State], Array]
ROUNDING = 500.0  # units of rounding of the rewards: less noise is what rewards that are all equal leave
BLOCKS = 32  # of draws, that the jackknife leaves out one by one


@lru_cache(maxsize=64)
def closed_form(kind: str, family: Family, options: Options) -> Signal | None:
    """Return the function (setting, log pi [P, n], state) -> |E g| / sqrt(tr Cov g), or None where there is no form.

    With R the pseudo-reward of an outcome, s = e_x - pi its score, and moments under the policy, the gradient is
    E g = E[R s]; tr Cov g is the learner's (``noise`` in its file). Noise of the sampled rewards adds its variance to
    R^2. NaN where the rewards are all equal, or one outcome has all
    the mass: then g is 0.

    Args:
        kind: Of the learner.
        family: Of its policies; only a table's scores have this form.
        options: Of the learner; a KL estimate in the loss is no part of a U-statistic, nor is a utility.
    """
    learner = LEARNERS.get(kind)
    noise_of = learner.noise if isinstance(learner, SampledLearner) else None
    if noise_of is None or not family.separate or options.kl.endswith("loss") or options.utility != "identity":
        return None

    def signal(setting: Setting, log_pi: Array, state: State) -> Array:
        pi, weight = jnp.exp(log_pi), jnp.asarray(setting.prompt_weight)
        R, extra = _rewards(setting, options, log_pi, state)

        def mean(of: Array) -> Array:
            return jnp.sum(pi * of, axis=-1, keepdims=True)

        norms = 1.0 - 2.0 * pi + jnp.sum(pi**2, axis=-1, keepdims=True)  # |s|^2
        centred = R - mean(R)
        signals = jnp.sum((pi * centred) ** 2, axis=-1, keepdims=True)
        noises = noise_of(Moments(mean, R, centred, extra, norms, signals, options.group_size))
        squared_weight = weight[:, None] ** 2
        signals, noise = jnp.sum(squared_weight * signals), jnp.sum(squared_weight * noises)
        size = ROUNDING * jnp.finfo(log_pi.dtype).eps * (jnp.max(jnp.abs(R)) + jnp.sqrt(jnp.max(extra)))
        return jnp.sqrt(signals / jnp.where(noise > size**2, noise, jnp.nan))

    return signal


def _rewards(setting: Setting, options: Options, log_pi: Array, state: State) -> tuple[Array, Array]:
    """Return what a sample of each outcome earns, shape [P, n], and the variance of its noise."""
    every = jnp.asarray(setting.refresh_every)
    due = (every > 0) & (state.updates % jnp.maximum(every, 1) == 0)  # the next update begins with the renewed p
    state = state._replace(reference=jnp.where(due, log_pi, state.reference))
    log_p = log_reference(setting, options, state, log_pi)
    true, false = jnp.asarray(setting.true_positive), jnp.asarray(setting.false_positive)
    said = false + (true - false) * setting.reward
    earned = setting.on_reward * said + (setting.on_reference - setting.kl_weight) * log_p
    all_outcomes = Batch(jnp.asarray(earned), log_p, log_pi, log_pi)
    wavers = said * (1.0 - said) if options.noisy_verifier else 0.0  # variance of a verdict
    noise = jnp.asarray(setting.on_reward) ** 2 * (jnp.asarray(setting.reward_noise) ** 2 + wavers)
    return total_reward(all_outcomes, jnp.asarray(setting.kl_weight), options), noise


def enumerated(kind: str, objective: Objective, problem: Problem, policy: FloatArray, group: int) -> float | None:
    """Return the ratio for ``grpo``, which the theory enumerates, or None where that cannot be done.

    Args:
        kind: Of the learner.
        objective: With ``reference`` frozen or policy.
        problem: n outcomes of positive base probability.
        policy: pi, shape [n].
        group: G.
    """
    learner = LEARNERS.get(kind)
    estimator = learner.enumerated if isinstance(learner, SampledLearner) else None
    if estimator is None or (objective.refresh_every is not None and objective.reference != "policy"):
        return None
    if objective.utility != "identity":
        return None
    try:
        given = enumeration.setting(objective, problem, policy, group)
    except InputError:  # too many groups, or an outcome that has underflowed
        return None
    found = enumeration.policy_gradient_estimate(given, estimator)
    if found.variance <= found.tolerance**2:
        return None
    return float(np.linalg.norm(found.expectation)) / math.sqrt(found.variance)


class Drawn(NamedTuple):
    """The square of a ratio estimated from draws, with its interval; both may be negative where it is near 0.

    Args:
        squared: (|E g|^2 / tr Cov g), from unbiased estimates of both; NaN if no draw differs from another.
        low: Lower end of the 95% interval.
        high: Upper end.
    """

    squared: float
    low: float
    high: float


def drawn(kind: str, family: Family, options: Options, at: Setting, state: State, seed: int, draws: int) -> Drawn:
    """Return the ratio of a learner's update, squared, from ``draws`` repetitions of it at one state.

    Args:
        kind: Of the learner.
        family: Of its policies.
        options: Of the learner.
        at: The run's setting.
        state: The run's state.
        seed: Of the draws.
        draws: D, at least 2 x 32.
    """
    with jax.enable_x64():
        keys = jax.random.split(jax.random.key(seed), draws)
        moved = np.asarray(_repeated(kind, family, options)(at, state, keys))
    return ratio_of_draws(moved.reshape(draws, -1))


@lru_cache(maxsize=64)
def _repeated(kind: str, family: Family, options: Options) -> Callable[..., Array]:
    """Return the jitted map (setting, state, keys [D]) -> changes of the logits for each key, shape [D, P, n]."""

    def change(setting: Setting, state: State, key: Array) -> Array:
        after = make(kind, setting, family, options).step(state, key)
        moved = after.parameters.theta - state.parameters.theta
        return moved - jnp.mean(moved, axis=-1, keepdims=True)  # a common shift of logits is no change

    return jax.jit(jax.vmap(change, in_axes=(None, None, 0)))


def ratio_of_draws(gradients: FloatArray) -> Drawn:
    """Return |E g|^2 / tr Cov g from independent draws, shape [D, d], with a 95% jackknife interval.

    |E g|^2 is estimated by the mean of g_i . g_j over the pairs, tr Cov g by the sample covariance: both unbiased,
    where the square of the mean draw would count noise as signal.
    """
    D = len(gradients)
    if D < 2 * BLOCKS:
        raise InputError("draws", D, f"at least {2 * BLOCKS}")
    # The ratio has no unit: a power of two, which changes no digit, keeps the squares of any draws numbers.
    gradients = np.ldexp(gradients, -int(np.frexp(np.max(np.abs(gradients)))[1]))
    squared = _pair_ratio(gradients.sum(axis=0), float(np.sum(gradients**2)), D)
    left_out = []
    for block in np.array_split(np.arange(D), BLOCKS):
        rest = np.delete(gradients, block, axis=0)
        left_out.append(_pair_ratio(rest.sum(axis=0), float(np.sum(rest**2)), len(rest)))
    without = np.array(left_out)
    error = math.sqrt((BLOCKS - 1) / BLOCKS * float(np.sum((without - without.mean()) ** 2)))
    half = student_t(BLOCKS - 1) * error
    return Drawn(squared, squared - half, squared + half)


def _pair_ratio(total: FloatArray, squares: float, D: int) -> float:
    mean_square = float(total @ total)
    signal = (mean_square - squares) / (D * (D - 1))
    noise = (squares - mean_square / D) / (D - 1)
    return signal / noise if noise > 0 else math.nan
