"""Distillation of samples that are reweighted to the target: self-normalised weights pi* / pi of a group.

The likelihood of p^alpha's samples, drawn by importance from the policy itself (Tomihari & Sato 2026): in the limit of
large groups the gradient of -KL(pi* || pi).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import log_target_ratio
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def power_distillation(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    share = jax.nn.softmax(log_target_ratio(batch, w_h), axis=-1)
    return -jnp.sum(weight * jnp.sum(share * log_pi, axis=-1))


learner = SampledLearner(power_distillation, needs_entropy=True)
