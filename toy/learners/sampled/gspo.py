"""GSPO (arXiv 2507.18071): GRPO's advantages, clipped by the sequence's ratio (pi / pi_start)^(1 / length)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, standardised, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def gspo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = standardised(total_reward(batch, w_h, options))
    ratio = jnp.exp((log_pi - batch.log_start) / batch.length)
    near = jnp.clip(ratio, 1.0 - options.gspo_clip_low, 1.0 + options.gspo_clip_high)
    gain = jnp.minimum(ratio * advantage, near * advantage)
    return -jnp.sum(weight * gain.mean(axis=-1)) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(gspo, several_epochs=True, utility="arcsin")
