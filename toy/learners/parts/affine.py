"""Many affine updates at once.

An update theta <- theta + eta (push + rate theta) of every logit by itself is theta <- g theta + eta push with
g = 1 + eta rate. So k of them are

    theta_k = g^k theta + eta push (1 - g^k) / (1 - g),

with k in the place of the fraction where g = 1. Nothing is rounded k times.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Affine(NamedTuple):
    """A direction push + rate theta of every logit by itself, for P prompts of n outcomes.

    Args:
        push: Shape [P, n].
        rate: Shape [P, n], or [P, 1] where it is one for all outcomes of a prompt.
    """

    push: Array
    rate: Array


class Leap(NamedTuple):
    """What k updates do: theta <- factor theta + shift."""

    factor: Array
    shift: Array


def leap(line: Affine, step_size: Array, count: Array) -> Leap:
    """Return k updates as one.

    Args:
        line: The direction.
        step_size: eta, a scalar.
        count: k >= 1, a scalar.

    Example:
        >>> halved = leap(Affine(jnp.ones(1), -jnp.ones(1)), jnp.array(0.5), jnp.array(3))
        >>> halved.factor.tolist(), halved.shift.tolist()
        ([0.125], [0.875])
    """
    less = -step_size * line.rate  # 1 - g
    k = jnp.asarray(count).astype(less.dtype)
    below = less < 1.0  # g > 0: there g^k and 1 - g^k keep the digits of 1 - g
    log_g = k * jnp.log1p(-jnp.where(below, less, 0.0))
    turned = jnp.exp(k * jnp.log(jnp.where(below, 1.0, less - 1.0))) * jnp.where(count % 2 == 1, -1.0, 1.0)
    factor = jnp.where(below, jnp.exp(log_g), turned)
    missing = jnp.where(below, -jnp.expm1(log_g), 1.0 - turned)
    times = jnp.where(less == 0.0, k, missing / jnp.where(less == 0.0, 1.0, less))
    return Leap(factor, step_size * line.push * times)
