"""Losses of the sampled learners: what each one minimises, given a batch of samples.

Axis letters: P prompts, G samples of a prompt. Every loss is the mean over prompts by weight and over samples, written
so that its gradient is minus the learner's estimate of grad J (up to a positive factor where the learner has one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

KL_PLACES = ("k1-reward", "k2-reward", "k3-reward", "k1-loss", "k2-loss", "k3-loss")
STD_FLOOR = 1e-6  # added to a group's standard deviation, as the public GRPO implementations do


class Batch(NamedTuple):
    """Samples from the behaviour policy, shapes [P, G].

    Args:
        reward: The pseudo-reward without its KL pair, w_r r + (w_p - w_h) s.
        log_reference: log p.
        log_behaviour: log-probability under the policy that sampled.
        log_start: log pi before the first epoch on this batch.
    """

    reward: Array
    log_reference: Array
    log_behaviour: Array
    log_start: Array


class Options(NamedTuple):
    """What is fixed when a learner is compiled.

    Args:
        group_size: Samples of a prompt, G.
        optimizer: ``sgd``, ``momentum`` or ``adam``.
        kl: Estimator of the KL and where it stands, one of ``KL_PLACES``. ``k1-reward`` is the objective as written.
        epochs: Gradient steps on one batch (PPO, DAPO).
        clip_low: PPO's lower clip.
        clip_high: PPO's upper clip.
        dapo_clip_high: DAPO's upper clip.
        stale: Updates for which ``off-policy`` keeps sampling from one policy.
        importance_cap: Largest importance weight of ``off-policy``.
        rank_penalty: beta_rank of the unlikeliness reward.
        reference_moves: Whether p is ever replaced by the policy; false saves its update.
        noisy_reward: Whether a setting has noise on its rewards; false saves drawing it.
    """

    group_size: int = 16
    optimizer: str = "sgd"
    kl: str = "k1-reward"
    epochs: int = 4
    clip_low: float = 0.2
    clip_high: float = 0.2
    dapo_clip_high: float = 0.28
    stale: int = 4
    importance_cap: float = 20.0
    rank_penalty: float = 0.25
    reference_moves: bool = True
    noisy_reward: bool = True


Loss = Callable[[Array, Batch, Array, Array, Array, Options], Array]
# (log pi [P, G] with gradient, batch, prompt weights [P], w_h, learned log Z, options) -> scalar


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


def leave_one_out(reward: Array) -> Array:
    """Return the reward minus the mean of the prompt's other samples (Kool 2019), shape [P, G]."""
    G = reward.shape[-1]
    return (reward - reward.mean(axis=-1, keepdims=True)) * (G / (G - 1))


def standardised(reward: Array) -> Array:
    """Return (reward - mean) / standard deviation of the prompt's samples (GRPO, Shao 2024), shape [P, G]."""
    return (reward - reward.mean(axis=-1, keepdims=True)) / (reward.std(axis=-1, keepdims=True, ddof=1) + STD_FLOOR)


def _policy_gradient(advantage: Array, log_pi: Array, weight: Array) -> Array:
    return -jnp.sum(weight * jnp.mean(stop_gradient(advantage) * log_pi, axis=-1))


def _kl_loss(log_pi: Array, batch: Batch, weight: Array, w_h: Array, options: Options) -> Array:
    name, _, place = options.kl.partition("-")
    if place != "loss":
        return jnp.zeros(())
    return w_h * jnp.sum(weight * jnp.mean(kl_estimate(name, log_pi, batch.log_reference), axis=-1))


def reinforce(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """REINFORCE without a baseline (Williams 1992)."""
    reward = total_reward(batch, w_h, options)
    return _policy_gradient(reward, log_pi, weight) + _kl_loss(log_pi, batch, weight, w_h, options)


def rloo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """REINFORCE with the leave-one-out baseline (Kool 2019; Ahmadian 2024); unbiased."""
    advantage = leave_one_out(total_reward(batch, w_h, options))
    return _policy_gradient(advantage, log_pi, weight) + _kl_loss(log_pi, batch, weight, w_h, options)


def grpo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """One update a batch with standardised rewards (Shao 2024); the division by the deviation biases it."""
    advantage = standardised(total_reward(batch, w_h, options))
    return _policy_gradient(advantage, log_pi, weight) + _kl_loss(log_pi, batch, weight, w_h, options)


def _clipped(advantage: Array, log_pi: Array, batch: Batch, low: float, high: float) -> Array:
    ratio = jnp.exp(log_pi - batch.log_start)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - low, 1.0 + high) * advantage)


def ppo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """PPO's clipped surrogate (Schulman 2017) with standardised rewards, several epochs a batch."""
    advantage = standardised(total_reward(batch, w_h, options))
    gain = _clipped(advantage, log_pi, batch, options.clip_low, options.clip_high)
    return -jnp.sum(weight * gain.mean(axis=-1)) + _kl_loss(log_pi, batch, weight, w_h, options)


def dapo(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """PPO with a higher upper clip, prompts whose rewards all agree left out of the mean (DAPO, Yu 2025).

    DAPO draws new prompts until enough have mixed rewards. With every prompt in each batch that is a mean over those
    that have.
    """
    reward = total_reward(batch, w_h, options)
    mixed = jnp.ptp(reward, axis=-1) > STD_FLOOR
    kept = weight * mixed
    gain = _clipped(standardised(reward), log_pi, batch, options.clip_low, options.dapo_clip_high)
    mean = jnp.sum(kept * gain.mean(axis=-1)) / jnp.maximum(kept.sum(), STD_FLOOR)
    return -mean + _kl_loss(log_pi, batch, weight, w_h, options)


def off_policy(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """RLOO's advantage with truncated importance weights pi / behaviour on samples of an older policy."""
    ratio = jnp.minimum(jnp.exp(batch.log_start - batch.log_behaviour), options.importance_cap)
    advantage = ratio * leave_one_out(total_reward(batch, w_h, options))
    return _policy_gradient(advantage, log_pi, weight) + _kl_loss(log_pi, batch, weight, w_h, options)


def trajectory_balance(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Half the squared log Z + w_h log pi - u with a learned log Z (Malkin 2022), u = reward + w_h log p."""
    gap = log_z + w_h * log_pi - batch.reward - w_h * batch.log_reference
    return 0.5 * jnp.sum(weight * jnp.mean(gap**2, axis=-1))


def batch_balance(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Trajectory balance with log Z estimated by the group's mean (VarGrad, Richter 2020)."""
    gap = w_h * log_pi - batch.reward - w_h * batch.log_reference
    return 0.5 * jnp.sum(weight * jnp.mean((gap - stop_gradient(gap.mean(axis=-1, keepdims=True))) ** 2, axis=-1))


def unlikeliness(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """GRPO on r (1 - beta_rank (G - rank) / G), rank 0 the likeliest of the group (He 2025)."""
    G = batch.reward.shape[-1]
    rank = jnp.argsort(jnp.argsort(-batch.log_start, axis=-1), axis=-1)
    scaled = batch._replace(
        reward=batch.reward * (1.0 - options.rank_penalty * (G - rank).astype(batch.reward.dtype) / G)
    )
    return grpo(log_pi, scaled, weight, w_h, log_z, options)


def best_of_n(log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options) -> Array:
    """Best-of-N distillation: the likelihood of the sample with the largest reward of its group (Huang 2024)."""
    best = jnp.argmax(total_reward(batch, w_h, options), axis=-1)
    return -jnp.sum(weight * jnp.take_along_axis(log_pi, best[:, None], axis=-1)[:, 0])


LOSSES: dict[str, Loss] = {
    "reinforce": reinforce,
    "rloo": rloo,
    "grpo": grpo,
    "ppo": ppo,
    "dapo": dapo,
    "off-policy": off_policy,
    "tb": trajectory_balance,
    "tb-batch": batch_balance,
    "unlikeliness": unlikeliness,
    "best-of-n": best_of_n,
}
EVERY_EPOCH = ("ppo", "dapo")  # learners that take several gradient steps on a batch
NEEDS_ENTROPY = ("tb", "tb-batch")  # a target distribution exists only with w_h > 0
