"""The advantage of every outcome."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.learner import Options, State, log_reference, pseudo_reward
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting


def centred_advantage(
    setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array
) -> tuple[Array, Array]:
    """Return pi and A - E_pi[A], shapes [P, n]."""
    pi = jax.nn.softmax(theta, axis=-1) if family.separate else jnp.exp(log_pi)  # shares log_pi's exponentials
    A = pseudo_reward(setting, jnp.asarray(setting.reward), log_reference(setting, options, state, log_pi), log_pi)
    return pi, A - jnp.sum(pi * A, axis=-1, keepdims=True)
