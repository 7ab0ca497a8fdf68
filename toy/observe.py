"""What a sweep records of a policy, computed beside the updates so that no trajectory is stored.

Axis letters: P prompts, n outcomes of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners import State, pseudo_reward
from sharpen.toy.setting import Setting
from sharpen.toy.signal_to_noise import Signal

Observer = Callable[[Setting, Array, State], dict[str, Array]]


MEASURES = (
    "expected_reward",
    "entropy",
    "effective_support",
    "top1",
    "top_outcome",
    "length",
    "kl_base",
    "kl_optimum",
    "face_mass",
    "kl_correct",
    "effective_alpha",
    "gradient_snr",
)


def measures(ks: tuple[int, ...]) -> list[str]:
    """Return the names of what is recorded, in the order of the table's columns."""
    return [*MEASURES, *(f"pass@{k}" for k in ks)]


@lru_cache
def observer(ks: tuple[int, ...], signal: Signal | None = None) -> Observer:
    """Return the function that measures a policy, with pass@k for each k of ``ks``.

    ``signal`` is the learner's `sharpen.toy.signal_to_noise.closed_form`, if it has one.

    Means over prompts by weight, in nats and tokens; NaN where a measure does not exist:

    - ``expected_reward`` E[r], ``entropy`` H(pi), ``effective_support`` exp H, ``top1`` the largest probability,
      ``length`` E|x|; ``top_outcome`` which outcome has the largest probability, with one prompt;
    - ``kl_base`` KL(pi || p); ``kl_optimum`` KL(pi || pi*) to the Gibbs optimum, for a frozen reference and w_h > 0;
      ``face_mass``, for w_h = 0, the probability of the optimal face;
    - ``kl_correct`` KL between pi and p, both conditioned on the outcomes of the largest reward: 0 while their ratios
      are the base's;
    - ``effective_alpha`` Cov_pi(log pi, log p) / Var_pi(log p) within prompts, the slope of log pi on log p;
    - ``gradient_snr`` |E g| / sqrt(tr Cov g) of the next update's gradient g;
    - ``pass@k`` 1 - (1 - q)^k with q the probability of the largest reward.
    """

    def observe(setting: Setting, log_pi: Array, state: State) -> dict[str, Array]:
        weight, pi = jnp.asarray(setting.prompt_weight), jnp.exp(log_pi)
        log_p, reward = jnp.asarray(setting.log_base), jnp.asarray(setting.reward)

        def mean(of: Array) -> Array:
            return jnp.sum(weight * jnp.sum(pi * of, axis=-1))

        entropy = -jnp.sum(pi * log_pi, axis=-1)
        correct = reward == reward.max(axis=-1, keepdims=True)
        right = jnp.sum(pi * correct, axis=-1)
        found = {
            "expected_reward": mean(reward),
            "entropy": jnp.sum(weight * entropy),
            "effective_support": jnp.sum(weight * jnp.exp(entropy)),
            "top1": jnp.sum(weight * pi.max(axis=-1)),
            "top_outcome": jnp.where(len(pi) == 1, pi[0].argmax(), jnp.nan),
            "length": mean(jnp.asarray(setting.length)),
            "kl_base": mean(log_pi - log_p),
            "kl_correct": jnp.sum(weight * _conditional_kl(log_pi, log_p, correct)),
            "effective_alpha": _slope(pi, log_pi, log_p, weight),
            "gradient_snr": jnp.full((), jnp.nan) if signal is None else signal(setting, log_pi, state),
            **_distance_to_optimum(setting, log_pi, weight),
        }
        return found | {f"pass@{k}": jnp.sum(weight * -jnp.expm1(k * jnp.log1p(-_below_one(right)))) for k in ks}

    return observe


def _below_one(q: Array) -> Array:
    return jnp.minimum(q, 1.0)  # sums of probabilities pass 1 by rounding, and log1p(-q) must not be NaN


def _conditional_kl(log_pi: Array, log_p: Array, inside: Array) -> Array:
    """Return KL(pi(. | inside) || p(. | inside)), shape [P]."""
    lost = -jnp.inf
    policy = jnp.where(inside, log_pi, lost)
    base = jnp.where(inside, log_p, lost)
    policy = policy - _logsumexp(policy)
    base = base - _logsumexp(base)
    return jnp.sum(jnp.where(inside, jnp.exp(policy) * (policy - base), 0.0), axis=-1)


def _logsumexp(x: Array) -> Array:
    top = x.max(axis=-1, keepdims=True)
    return top + jnp.log(jnp.sum(jnp.exp(x - top), axis=-1, keepdims=True))


def _slope(pi: Array, log_pi: Array, log_p: Array, weight: Array) -> Array:
    def centre(x: Array) -> Array:
        return x - jnp.sum(pi * x, axis=-1, keepdims=True)

    x, y = centre(log_p), centre(log_pi)
    return jnp.sum(weight * jnp.sum(pi * x * y, axis=-1)) / jnp.sum(weight * jnp.sum(pi * x * x, axis=-1))


def _distance_to_optimum(setting: Setting, log_pi: Array, weight: Array) -> dict[str, Array]:
    reward, log_p = jnp.asarray(setting.reward), jnp.asarray(setting.log_base)
    potential = pseudo_reward(setting, reward, log_p, jnp.zeros_like(log_p))  # A at log pi = 0
    w_h, frozen = jnp.asarray(setting.kl_weight), jnp.asarray(setting.refresh_every) == 0
    scaled = potential / jnp.where(w_h > 0, w_h, 1.0)
    gibbs = scaled - _logsumexp(scaled)
    kl = jnp.sum(weight * jnp.sum(jnp.exp(log_pi) * (log_pi - gibbs), axis=-1))
    best = potential.max(axis=-1, keepdims=True)
    face = potential >= best - 1e-12 * jnp.maximum(1.0, jnp.abs(best))
    mass = jnp.sum(weight * jnp.sum(jnp.where(face, jnp.exp(log_pi), 0.0), axis=-1))
    return {
        "kl_optimum": jnp.where(frozen & (w_h > 0), kl, jnp.nan),
        "face_mass": jnp.where(frozen & (w_h == 0), mass, jnp.nan),
    }
