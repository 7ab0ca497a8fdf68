"""GRPO on r (1 - beta_rank (G - rank) / G), rank 0 the likeliest of the group (He 2025)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner
from sharpen.toy.learners.sampled.grpo import grpo


def unlikeliness(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    G = batch.reward.shape[-1]
    rank = jnp.argsort(jnp.argsort(-batch.log_start, axis=-1), axis=-1)
    scaled = batch._replace(
        reward=batch.reward * (1.0 - options.rank_penalty * (G - rank).astype(batch.reward.dtype) / G)
    )
    return grpo(log_pi, scaled, weight, w_h, log_z, options)


learner = SampledLearner(unlikeliness)
