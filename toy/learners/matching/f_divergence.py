"""Twice the Jensen-Shannon divergence to the target, an f-divergence, by samples (f-DPG, Go et al. 2023).

D_f = sum pi* f(pi / pi*) has the gradient E[f'(pi / pi*) grad log pi]; here -f' = log((1 + rho) / 2) with
rho = pi* / pi, Z estimated from the group.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.estimates import leave_one_out, log_target_ratio, policy_gradient
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def f_divergence(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    return policy_gradient(leave_one_out(jnp.logaddexp(0.0, log_target_ratio(batch, w_h))), log_pi, weight)


learner = SampledLearner(f_divergence, needs_entropy=True)
