"""The alpha-divergence to the target, D_a = (1 - sum pi*^a pi^(1 - a)) / (a (1 - a)), by samples (Minka 2005).

Its gradient is -E[rho^a grad log pi] / a with rho = pi* / pi, Z estimated from the group. a = 1/2 is Hellinger's.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import leave_one_out, log_target_ratio, policy_gradient
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def alpha_divergence(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    a = options.divergence_alpha
    return policy_gradient(leave_one_out(jnp.exp(a * log_target_ratio(batch, w_h)) / a), log_pi, weight)


learner = SampledLearner(alpha_divergence, needs_entropy=True)
