"""Pass@k training with its analytical advantages (arXiv 2508.10751, eq. 14 and 15).

With N wrong of G samples, R = 1 - C(N, K) / C(G, K) and sigma = sqrt(R (1 - R)), right samples have (1 - R) / sigma and
wrong ones (1 - R - C(N - 1, K - 1) / C(G - 1, K - 1)) / sigma; nothing where sigma is 0. K is the objective's, pass@K.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from sharpen.objective.counts import least_samples, pass_at_k
from sharpen.toy.learners.parts.estimates import beside_task, kl_loss, policy_gradient
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner


def analytical(G: int, K: int) -> NDArray[np.float64]:
    """Return the advantages of wrong and of right samples where c are right, shape [2, G + 1].

    Example:
        >>> analytical(4, 2)[:, 1].round(3).tolist()  # one of four is right
        [-0.333, 1.0]
    """
    right = np.arange(G + 1)
    R = pass_at_k(right, G, K)
    among = np.ones(G + 1)  # C(N - 1, K - 1) / C(G - 1, K - 1): no right one beside a wrong one
    if K > 1:
        among[:G] = 1.0 - pass_at_k(right[:G], G - 1, K - 1)
    sigma = np.sqrt(R * (1.0 - R))
    scale = np.where(sigma > 0.0, sigma, np.inf)
    return np.stack([(1.0 - R - among) / scale, (1.0 - R) / scale])


def pass_k(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    task = jnp.asarray(batch.task)
    right = jnp.round(task).astype(jnp.int32)
    of = jnp.asarray(analytical(task.shape[-1], least_samples(options.utility)), task.dtype)
    advantage = beside_task(of[right, right.sum(axis=-1, keepdims=True)], batch, w_h, options)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


learner = SampledLearner(pass_k, utility="pass@K", counts_right=True)
