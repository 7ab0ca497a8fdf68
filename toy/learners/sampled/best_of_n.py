"""Best-of-N distillation: the likelihood of the sample with the largest reward of its group (Huang 2024)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def best_of_n(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    best = jnp.argmax(total_reward(batch, w_h, options), axis=-1)
    return -jnp.sum(weight * jnp.take_along_axis(log_pi, best[:, None], axis=-1)[:, 0])


learner = SampledLearner(best_of_n, samples=1)
