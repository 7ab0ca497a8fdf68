"""PPO with a higher upper clip, prompts whose rewards all agree left out of the mean (DAPO, Yu 2025).

DAPO draws new prompts until enough have mixed rewards. With every prompt in each batch that is a mean over those
that have.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import STD_FLOOR, clipped, kl_loss, standardised, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def dapo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    reward = total_reward(batch, w_h, options)
    mixed = jnp.ptp(reward, axis=-1) > STD_FLOOR
    kept = weight * mixed
    gain = clipped(standardised(reward), log_pi, batch, options.clip_low, options.dapo_clip_high)
    mean = jnp.sum(kept * gain.mean(axis=-1)) / jnp.maximum(kept.sum(), STD_FLOOR)
    return -mean + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(dapo, several_epochs=True)
