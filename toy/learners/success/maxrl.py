"""MaxRL (arXiv 2602.02710): (r - mean) / mean, nothing where all are wrong; likelihood to the order G - 1 (T19)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import beside_task, kl_loss, policy_gradient
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def by_mean(task: Array, all_wrong: float) -> Array:
    """Return (r - mean) / mean of each group, and ``all_wrong`` where the mean is 0, shape [P, G]."""
    mean = task.mean(axis=-1, keepdims=True)
    return jnp.where(mean > 0.0, (task - mean) / jnp.where(mean > 0.0, mean, 1.0), all_wrong)


def maxrl(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = beside_task(by_mean(jnp.asarray(batch.task), 0.0), batch, w_h, options)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(maxrl, utility="log", counts_right=True)
