"""The advantage of every outcome."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.learner import Options, State, log_reference, pseudo_reward
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting
from sharpen.toy.problems.utility import success_slope


def centred_advantage(
    setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array
) -> tuple[Array, Array]:
    """Return pi and A - E_pi[A], shapes [P, n]."""
    logits = theta if family.separate else log_pi
    mass = jnp.exp(logits - logits.max(axis=-1, keepdims=True))  # for a table log_pi's own exponentials
    scale = 1.0 / mass.sum(axis=-1, keepdims=True)
    pi = mass * scale
    reward, log_p = jnp.asarray(setting.reward), log_reference(setting, options, state, log_pi)
    if options.utility == "identity":
        A = pseudo_reward(setting, reward, log_p, log_pi)
    else:
        # From P, not from 0: a constant less, which at certainty is all that right answers have of a huge slope.
        wrong = jnp.sum(pi * (1.0 - reward), axis=-1, keepdims=True)
        A = pseudo_reward(setting, reward - 1.0 + wrong, log_p, log_pi, success_slope(options.utility, pi, reward))
    # Scaled after the sum: with pi in it XLA makes one slow loop of the sum and all that follows, half of an update.
    return pi, A - scale * jnp.sum(mass * A, axis=-1, keepdims=True)
