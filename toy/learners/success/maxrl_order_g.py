"""MaxRL with -1 where all are wrong: likelihood to the order G (T19)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import beside_task, kl_loss, policy_gradient
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner
from sharpen.toy.learners.success.maxrl import by_mean


def maxrl_order_g(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = beside_task(by_mean(jnp.asarray(batch.task), -1.0), batch, w_h, options)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(maxrl_order_g, utility="log", counts_right=True)
