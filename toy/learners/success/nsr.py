"""Negative samples alone (NSR, arXiv 2506.01347): -1 for wrong ones, nothing for right ones."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import beside_task, kl_loss, policy_gradient
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def nsr(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = beside_task(jnp.asarray(batch.task) - 1.0, batch, w_h, options)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(nsr, counts_right=True)
