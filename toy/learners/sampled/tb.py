"""Half the squared log Z + w_h log pi - u with a learned log Z (Malkin 2022), u = reward + w_h log p."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def trajectory_balance(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    gap = log_z + w_h * log_pi - batch.reward - w_h * batch.log_reference
    return 0.5 * jnp.sum(weight * jnp.mean(gap**2, axis=-1))


learner = SampledLearner(trajectory_balance, samples=1, needs_entropy=True, learns_log_z=True)
