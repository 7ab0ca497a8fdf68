"""RLOO with an entropy bonus of a fixed weight: the gradient of J + c H (Williams & Peng 1991)."""

from __future__ import annotations

from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, leave_one_out, policy_gradient, with_slopes
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def entropy_bonus(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = with_slopes(leave_one_out, batch, w_h, options)
    advantage = advantage - options.entropy_weight * leave_one_out(batch.log_start)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(entropy_bonus, utility="any")
