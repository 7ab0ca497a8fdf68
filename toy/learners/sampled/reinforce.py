"""REINFORCE without a baseline (Williams 1992)."""

from __future__ import annotations

from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, policy_gradient, with_slopes
from sharpen.toy.learners.parts.learner import Batch, Moments, Options, SampledLearner


def reinforce(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = with_slopes(lambda reward: reward, batch, w_h, options)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


def noise(at: Moments) -> Array:
    """Return tr Cov g = (E[R^2 |s|^2] - |E g|^2) / G, shape [P, 1]."""
    return (at.mean((at.reward**2 + at.extra) * at.norms) - at.signals) / at.group_size


learner = SampledLearner(reinforce, samples=1, noise=noise, utility="any")
