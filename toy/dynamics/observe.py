"""What a sweep records of a policy, computed beside the updates so that no trajectory is stored.

Axis letters: P prompts, n outcomes of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax.numpy as jnp
from jax import Array

from sharpen.theory.core.ties import reward_scale, top_face
from sharpen.toy.dynamics.measures import student_t
from sharpen.toy.dynamics.signal_to_noise import Signal
from sharpen.toy.learners.parts.learner import State, pseudo_reward
from sharpen.toy.problems.setting import Setting

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
    "kl_from_correct",
    "effective_alpha",
    "effective_alpha_low",
    "effective_alpha_high",
    "gradient_snr",
)


def measures(ks: tuple[int, ...], sizes: tuple[float, ...] = ()) -> list[str]:
    """Return the names of what is recorded, in the order of the table's columns."""
    return [*MEASURES, *(f"pass@{k}" for k in ks), *(f"length={size:g}" for size in sizes)]


@lru_cache
def observer(ks: tuple[int, ...], signal: Signal | None = None, sizes: tuple[float, ...] = ()) -> Observer:
    """Return the function that measures a policy, with pass@k for each k of ``ks``.

    ``signal`` is the learner's `sharpen.toy.dynamics.signal_to_noise.closed_form`, if it has one.

    Means over prompts by weight, in nats and tokens; NaN where a measure does not exist:

    - ``expected_reward`` E[r], ``entropy`` H(pi), ``effective_support`` exp H, ``top1`` the largest probability,
      ``length`` E|x|; ``top_outcome`` which outcome has the largest probability, with one prompt;
    - ``kl_base`` KL(pi || p); ``kl_optimum`` KL(pi || pi*) to the Gibbs optimum, for a frozen reference and w_h > 0;
      ``face_mass``, for w_h = 0, the probability of the optimal face, and of the right answers where a utility ends in
      certainty, to which the KL is infinite;
    - ``kl_correct`` KL between pi and p, both conditioned on the outcomes of the largest reward: 0 while their ratios
      are the base's;
    - ``kl_from_correct`` KL(p(. | correct) || pi), p conditioned on the largest reward: 0 where task reward's natural
      gradient ends;
    - ``effective_alpha`` Cov_pi(log pi, log p) / Var_pi(log p) within prompts, the slope of log pi on log p, and the
      ends ``_low`` and ``_high`` of its 95% interval from the residuals (:func:`_slope`): narrow where pi is a power
      of p;
    - ``gradient_snr`` |E g| / sqrt(tr Cov g) of the next update's gradient g;
    - ``pass@k`` 1 - (1 - q)^k with q the probability of the largest reward;
    - ``length=L`` the probability of length L, for each L of ``sizes``.
    """

    def observe(setting: Setting, log_pi: Array, state: State) -> dict[str, Array]:
        weight, pi = jnp.asarray(setting.prompt_weight), jnp.exp(log_pi)
        log_p, reward = jnp.asarray(setting.log_base), jnp.asarray(setting.reward)

        def mean(of: Array) -> Array:
            return jnp.sum(weight * jnp.sum(pi * of, axis=-1))

        entropy = -jnp.sum(pi * log_pi, axis=-1)
        correct = top_face(reward, reward_scale(reward))
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
            "kl_from_correct": jnp.sum(weight * _kl_from_conditioned(log_pi, log_p, correct)),
            **_slope(pi, log_pi, log_p, weight),
            "gradient_snr": jnp.full((), jnp.nan) if signal is None else signal(setting, log_pi, state),
            **_distance_to_optimum(setting, log_pi, weight),
        }
        found |= {f"pass@{k}": jnp.sum(weight * -jnp.expm1(k * jnp.log1p(-_below_one(right)))) for k in ks}
        return found | {f"length={size:g}": mean(jnp.asarray(setting.length) == size) for size in sizes}

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


def _kl_from_conditioned(log_pi: Array, log_p: Array, inside: Array) -> Array:
    """Return KL(p(. | inside) || pi), shape [P]."""
    base = jnp.where(inside, log_p, -jnp.inf)
    base = base - _logsumexp(base)
    return jnp.sum(jnp.where(inside, jnp.exp(base) * (base - log_pi), 0.0), axis=-1)


def _slope(pi: Array, log_pi: Array, log_p: Array, weight: Array) -> dict[str, Array]:
    """Return the regression of log pi on log p, weighted by the policy, with a constant for each prompt.

    The interval is White's (1980) for n P outcomes, with Student's t and the factor of lost degrees of freedom (HC1).
    """

    def centre(x: Array) -> Array:
        return x - jnp.sum(pi * x, axis=-1, keepdims=True)

    x, y, w = centre(log_p), centre(log_pi), weight[:, None] * pi
    spread = jnp.sum(w * x * x)
    slope = jnp.sum(w * x * y) / spread
    left = x.size - x.shape[0] - 1
    if left < 1:
        half = jnp.full((), jnp.nan, x.dtype)
    else:
        variance = jnp.sum((w * x * (y - slope * x)) ** 2) / spread**2 * (x.size / left)
        half = student_t(left) * jnp.sqrt(variance)
    return {"effective_alpha": slope, "effective_alpha_low": slope - half, "effective_alpha_high": slope + half}


def _distance_to_optimum(setting: Setting, log_pi: Array, weight: Array) -> dict[str, Array]:
    reward, log_p = jnp.asarray(setting.reward), jnp.asarray(setting.log_base)
    slope = jnp.asarray(setting.end_slope)[..., None]
    certain = jnp.isinf(slope)  # the end is all right answers, with no entropy between them and wrong ones
    slope = jnp.where(certain, 1.0, slope)
    potential = pseudo_reward(setting, reward, log_p, jnp.zeros_like(log_p), slope)  # A at log pi = 0
    w_h, frozen = jnp.asarray(setting.kl_weight), jnp.asarray(setting.refresh_every) == 0
    scaled = potential / jnp.where(w_h > 0, w_h, 1.0)
    gibbs = scaled - _logsumexp(scaled)
    kl = jnp.sum(weight * jnp.sum(jnp.exp(log_pi) * (log_pi - gibbs), axis=-1))
    likelihood = jnp.abs(jnp.asarray(setting.on_reference) * log_p)
    face = top_face(potential, reward_scale(setting.on_reward * reward) + likelihood)
    face = jnp.where(certain & (w_h > 0), reward > 0, face)
    mass = jnp.sum(weight * jnp.sum(jnp.where(face, jnp.exp(log_pi), 0.0), axis=-1))
    return {
        "kl_optimum": jnp.where(frozen & (w_h > 0) & ~jnp.any(certain), kl, jnp.nan),
        "face_mass": jnp.where(frozen & ((w_h == 0) | jnp.all(certain)), mass, jnp.nan),
    }
