"""One update per batch with standardised rewards (Shao 2024); the division by the deviation biases it."""

from __future__ import annotations

from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, policy_gradient, standardised, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def grpo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = standardised(total_reward(batch, w_h, options))
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(grpo, enumerated="grpo", utility="arcsin")
