"""What losses of sampled learners are made of.

Axis letters: P prompts, G samples of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from sharpen.objective.counts import utility_weights
from sharpen.toy.learners.parts.learner import Batch, Options

STD_FLOOR = 1e-6  # added to a group's standard deviation, as the public GRPO implementations do


def kl_estimate(name: str, log_pi: Array, log_p: Array) -> Array:
    """Return k1 = log pi - log p, k2 = k1^2 / 2 or k3 = p/pi - 1 + k1 (Schulman 2020) of every sample."""
    k1 = log_pi - log_p
    if name == "k1":
        return k1
    return 0.5 * k1**2 if name == "k2" else jnp.expm1(-k1) + k1


def total_reward(batch: Batch, w_h: Array, options: Options) -> Array:
    """Return the reward with the KL estimate that ``options`` puts there, shape [P, G], a constant."""
    name, _, place = options.kl.partition("-")
    if place == "loss":
        return batch.reward
    return batch.reward - w_h * kl_estimate(name, batch.log_start, batch.log_reference)


def success_slopes(utility: str, task: Array) -> Array:
    """Return the estimate of f'(P) of each sample from the others of its group, shape [P, G].

    Unbiased for the polynomial that stands for f in groups of G, see :func:`sharpen.objective.counts.utility_weights`.

    Args:
        utility: f.
        task: Rewards 0 and 1 of the samples, shape [P, G].
    """
    weights = jnp.asarray(utility_weights(utility, task.shape[-1]), task.dtype)
    others = jnp.sum(task, axis=-1, keepdims=True) - task
    return weights[jnp.round(others).astype(jnp.int32)]


def with_slopes(advantage: Callable[[Array], Array], batch: Batch, w_h: Array, options: Options) -> Array:
    """Return an advantage that is linear in the rewards, the task's part of it times each sample's slope, [P, G].

    A_i = w_i (r_i - mean of the others) has the mean f'(P) grad P, as neither w_i nor the mean reads sample i.
    """
    reward = total_reward(batch, w_h, options)
    if options.utility == "identity":
        return advantage(reward)
    task = jnp.asarray(batch.task)
    return advantage(reward - task) + batch.slope * advantage(task)


def beside_task(advantage: Array, batch: Batch, w_h: Array, options: Options) -> Array:
    """Return an advantage of the task reward, and RLOO's of what else the objective has, shape [P, G]."""
    return advantage + leave_one_out(total_reward(batch, w_h, options) - batch.task)


def log_target_ratio(batch: Batch, w_h: Array) -> Array:
    """Return log pi*/pi of the samples with Z estimated by their own mean of e^(u / w_h) / pi, shape [P, G]."""
    ratio = batch.reward / w_h + batch.log_reference - batch.log_start
    return ratio - jax.nn.logsumexp(ratio, axis=-1, keepdims=True) + jnp.log(1.0 * ratio.shape[-1])


def leave_one_out(reward: Array) -> Array:
    """Return the reward minus the mean of the prompt's other samples (Kool 2019), shape [P, G]."""
    G = reward.shape[-1]
    return (reward - reward.mean(axis=-1, keepdims=True)) * (G / (G - 1))


def standardised(reward: Array) -> Array:
    """Return (reward - mean) / standard deviation of the prompt's samples (GRPO, Shao 2024), shape [P, G]."""
    return (reward - reward.mean(axis=-1, keepdims=True)) / (reward.std(axis=-1, keepdims=True, ddof=1) + STD_FLOOR)


def policy_gradient(advantage: Array, log_pi: Array, weight: Array) -> Array:
    """Return the loss whose gradient is minus the mean of advantage x grad log pi."""
    return -jnp.sum(weight * jnp.mean(stop_gradient(advantage) * log_pi, axis=-1))


def kl_loss(log_pi: Array, batch: Batch, weight: Array, w_h: Array, options: Options) -> Array:
    """Return w_h times the mean KL estimate if ``options`` puts it into the loss, else 0."""
    name, _, place = options.kl.partition("-")
    if place != "loss":
        return jnp.zeros(())
    return w_h * jnp.sum(weight * jnp.mean(kl_estimate(name, log_pi, batch.log_reference), axis=-1))


def clipped(advantage: Array, log_pi: Array, batch: Batch, low: float, high: float) -> Array:
    """Return PPO's clipped surrogate of every sample (Schulman 2017), shape [P, G]."""
    ratio = jnp.exp(log_pi - batch.log_start)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - low, 1.0 + high) * advantage)
