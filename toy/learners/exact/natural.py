"""The exact natural gradient: theta <- theta + eta F^+ g with the Fisher matrix F and g = grad_theta J.

For separate logits F^+ g is the pseudo-reward A of every outcome up to a constant a prompt.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.advantage import centred_advantage
from sharpen.toy.learners.parts.affine import Affine
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


def on_logits(setting: Setting, state: State) -> Affine:
    """Return A up to a constant a prompt as an affine function of the logits.

    The constant that would centre A shifts every logit of a prompt alike, and stays such a shift. So the policy need
    not be computed until someone looks.
    """
    log_p = state.reference + state.error
    fixed = pseudo_reward(setting, jnp.asarray(setting.reward), log_p, jnp.zeros_like(log_p))
    # Best outcomes at 0: the logits of what is left do not drift, and keep their digits. Against a frozen reference the
    # weight of log pi is -w_h for every outcome, so one of a prompt's is enough.
    return Affine(fixed - fixed.max(axis=-1, keepdims=True), jnp.asarray(setting.on_policy)[..., :1])


learner = ExactLearner(natural_direction, step_size=0.1, field="natural", on_logits=on_logits)
