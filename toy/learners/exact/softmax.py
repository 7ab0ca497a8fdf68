"""The exact softmax (vanilla) policy gradient: theta <- theta + eta grad_theta J."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.advantage import centred_advantage
from sharpen.toy.learners.parts.learner import ExactLearner, Options, State
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting


def softmax_direction(
    setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array
) -> Array:
    """Return grad_theta J, for a table the prompt's weight times pi (A - E_pi[A])."""
    weight = jnp.asarray(setting.prompt_weight)
    pi, centred = centred_advantage(setting, family, options, state, theta, log_pi)
    if family.separate:
        return weight[:, None] * pi * centred
    _, pull = jax.vjp(partial(family.log_policy, setting), theta)
    return pull(weight[:, None] * pi * centred)[0]


# A natural step moves log pi by eta A, a softmax step by eta pi A, so eta can be larger for the same change.
learner = ExactLearner(softmax_direction, step_size=1.0, field="softmax")
