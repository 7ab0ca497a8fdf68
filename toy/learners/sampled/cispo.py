"""CISPO (arXiv 2506.13585): GRPO's advantages times a capped ratio that is no part of the gradient: none is cut off."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from sharpen.toy.learners.parts.estimates import kl_loss, policy_gradient, standardised, total_reward
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def cispo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    ratio = jnp.minimum(jnp.exp(stop_gradient(log_pi) - batch.log_start), options.cispo_cap)
    advantage = ratio * standardised(total_reward(batch, w_h, options))
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(cispo, several_epochs=True, utility="arcsin")
