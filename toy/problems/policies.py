"""Families of tabular policies: from parameters to log-probabilities of every outcome of every prompt.

Axis letters: P prompts, n outcomes, d parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.problems.setting import Setting


class Family(NamedTuple):
    """A way to write policies. Hashable, so that computations compiled for a family are found again.

    Args:
        start: From a setting to the parameters at which the policy is the base.
        log_policy: From a setting and parameters to log pi, shape [P, n].
        separate: Whether every outcome of every prompt has a logit of its own, so that the natural gradient is the
            advantage itself.
        parameters: d, for families whose parameters are not the outcomes' logits; 0 for those.
    """

    start: Callable[[Setting], Array]
    log_policy: Callable[[Setting, Array], Array]
    separate: bool
    parameters: int = 0


# A logit for each outcome of each prompt: theta [P, n].
SEPARATE = Family(lambda at: jnp.asarray(at.log_base), lambda at, logits: jax.nn.log_softmax(logits, axis=-1), True)

# One shift of the base's logits that all prompts share, log pi = log softmax(log p + theta): theta [n].
SHARED = Family(
    lambda at: jnp.zeros(at.log_base.shape[-1], jnp.asarray(at.log_base).dtype),
    lambda at, shift: jax.nn.log_softmax(jnp.asarray(at.log_base) + shift, axis=-1),
    False,
)
