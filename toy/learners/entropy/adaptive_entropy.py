"""RLOO with an entropy bonus only where the entropy is below a target (as in arXiv 2505.22312), the more the lower.

The weight of sample i is gain max(0, target - H), H the mean of -log pi over the others of its group.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, leave_one_out, policy_gradient, with_slopes
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def adaptive_entropy(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    surprise = -batch.log_start
    others = surprise - leave_one_out(surprise)  # the mean of the others
    bonus = options.entropy_gain * jnp.maximum(0.0, options.entropy_target - others)
    advantage = with_slopes(leave_one_out, batch, w_h, options) + bonus * leave_one_out(surprise)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(adaptive_entropy, utility="any")
