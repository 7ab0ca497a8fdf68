"""REINFORCE with the leave-one-out baseline (Kool 2019; Ahmadian 2024); unbiased."""

from __future__ import annotations

from jax import Array

from sharpen.toy.learners.parts.estimates import kl_loss, leave_one_out, policy_gradient, with_slopes
from sharpen.toy.learners.parts.learner import Batch, Moments, Options, SampledLearner


def rloo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Return the loss of a batch; see :class:`sharpen.toy.learners.parts.learner.Loss`."""
    advantage = with_slopes(leave_one_out, batch, w_h, options)
    return policy_gradient(advantage, log_pi, weight) + kl_loss(log_pi, batch, weight, w_h, options)


def noise(at: Moments) -> Array:
    """Return tr Cov g, shape [P, 1], of a U-statistic of the pairs (R_i - R_j)(s_i - s_j)/2 (Hoeffding 1948).

    tr Cov g = [(G - 1) E[R^2 |s|^2] - (G - 2) |E g|^2 + Var(R) E|s|^2] / (G (G - 1)), with R centred.
    """
    G = at.group_size
    spread = at.mean((at.centred**2 + at.extra) * at.norms)
    noises = (G - 1) * spread - (G - 2) * at.signals + at.mean(at.centred**2 + at.extra) * at.mean(at.norms)
    return noises / (G * (G - 1))


learner = SampledLearner(rloo, noise=noise, utility="any")
