"""The exact natural gradient: theta <- theta + eta F^+ g with the Fisher matrix F and g = grad_theta J.

For separate logits F^+ g is the pseudo-reward A of every outcome up to a constant a prompt.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.advantage import centred_advantage
from sharpen.toy.learners.parts.learner import ExactLearner, Options, State, pseudo_reward
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting


def natural_direction(
    setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array
) -> Array:
    """Return F^+ g: the least-squares fit of A by the scores grad log pi, weighted by the policy (Kakade 2001)."""
    _, centred = centred_advantage(setting, family, options, state, theta, log_pi)
    if family.separate:  # the prompts' weights cancel: F is block diagonal with the same weights
        return centred
    jacobian = jax.jacobian(partial(family.log_policy, setting))(theta)  # [P, n, d]
    scale = jnp.sqrt(jnp.asarray(setting.prompt_weight)[:, None] * jnp.exp(log_pi))
    rows = (scale[..., None] * jacobian).reshape(-1, theta.shape[0])
    return jnp.linalg.lstsq(rows, (scale * centred).ravel())[0]


def on_logits(setting: Setting, state: State) -> Array:
    """Return A up to a constant a prompt, shape [P, n].

    The constant that would centre A shifts every logit of a prompt alike, and stays such a shift. So the policy need
    not be computed until someone looks.
    """
    theta = state.parameters.theta
    log_p = state.reference + state.error
    fixed = pseudo_reward(setting, jnp.asarray(setting.reward), log_p, jnp.zeros_like(theta))
    # Best outcomes at 0: the logits of what is left do not drift, and keep their digits.
    anchored = fixed - fixed.max(axis=-1, keepdims=True)
    return anchored + setting.on_policy * theta


learner = ExactLearner(natural_direction, step_size=0.1, field="natural", on_logits=on_logits)
