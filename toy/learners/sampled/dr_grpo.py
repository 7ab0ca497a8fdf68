"""GRPO without the division (Dr. GRPO, arXiv 2503.20783): the reward less the group's mean, sample itself included."""

from __future__ import annotations

from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, policy_gradient, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def dr_grpo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    reward = total_reward(batch, w_h, options)
    advantage = reward - reward.mean(axis=-1, keepdims=True)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(dr_grpo, enumerated="mean-baseline")
