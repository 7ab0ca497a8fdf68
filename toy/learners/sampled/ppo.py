"""PPO's clipped surrogate (Schulman 2017) with standardised rewards, several epochs a batch."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import clipped, kl_loss, standardised, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def ppo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = standardised(total_reward(batch, w_h, options))
    gain = clipped(advantage, log_pi, batch, options.clip_low, options.clip_high)
    return -jnp.sum(weight * gain.mean(axis=-1)) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(ppo, several_epochs=True)
