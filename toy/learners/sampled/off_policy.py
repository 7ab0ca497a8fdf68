"""RLOO's advantage with truncated importance weights pi / behaviour on samples of an older policy."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, leave_one_out, policy_gradient, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def off_policy(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    ratio = jnp.minimum(jnp.exp(batch.log_start - batch.log_behaviour), options.importance_cap)
    advantage = ratio * leave_one_out(total_reward(batch, w_h, options))
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(off_policy, stale=True)
