"""Trajectory balance with log Z estimated by the group's mean (VarGrad, Richter 2020)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def batch_balance(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    gap = w_h * log_pi - batch.reward - w_h * batch.log_reference
    return 0.5 * jnp.sum(weight * jnp.mean((gap - stop_gradient(gap.mean(axis=-1, keepdims=True))) ** 2, axis=-1))


learner = SampledLearner(batch_balance, needs_entropy=True)
