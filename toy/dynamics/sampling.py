"""Outcomes drawn from many policies at once, by inverting their cumulative probabilities.

Axis letters: P prompts, n outcomes of a prompt, G samples of a prompt.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

COMPARED = 32  # outcomes up to which comparing with all of them is fastest, as one vectorised loop


def samples(key: Array, log_pi: Array, G: int) -> Array:
    """Return G independent outcomes of each prompt, shape [P, G].

    Args:
        key: Of the draws.
        log_pi: Shape [P, n].
        G: Samples of each prompt.
    """
    cumulative = jnp.cumsum(jnp.exp(log_pi), axis=-1)
    at = jax.random.uniform(key, (log_pi.shape[0], G), log_pi.dtype) * cumulative[:, -1:]
    return reached(cumulative[:, :-1], at)


def reached(levels: Array, at: Array) -> Array:
    """Return how many ascending levels each number has reached, levels <= number, shapes [P, m] and [P, G] to [P, G].

    Of many levels, first how many blocks of about sqrt(m) it has reached the end of, then how many levels of the block
    that it is in: 2 sqrt(m) comparisons a number, in loops without branches.
    """
    m = levels.shape[-1]
    if m < COMPARED:
        return jnp.sum(levels[:, None] <= at[..., None], axis=-1)
    width = 1 << ((m.bit_length() + 1) // 2)
    blocks = -(-m // width)
    filled = jnp.pad(levels, ((0, 0), (0, blocks * width - m)), constant_values=jnp.inf)
    filled = filled.reshape(-1, blocks, width)
    passed = jnp.sum(filled[:, None, :, -1] <= at[..., None], axis=-1)  # [P, G]
    block = jax.vmap(lambda rows, row: rows[row])(filled, jnp.minimum(passed, blocks - 1))  # [P, G, width]
    within = jnp.sum(block <= at[..., None], axis=-1)
    return jnp.where(passed < blocks, passed * width + within, m)
