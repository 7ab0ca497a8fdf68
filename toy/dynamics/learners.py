"""Updates of a tabular policy, each a pair of pure functions over an explicit state.

A learner is ``init(key) -> State`` and ``step(state, key) -> State``. Exact learners follow the gradient of J computed
on every outcome; sampled ones (`sharpen.toy.dynamics.estimators`) see G samples of each prompt. The pseudo-reward's
weights come from the objective (`sharpen.toy.problems.setting`).

Axis letters: P prompts, n outcomes of a prompt, G samples of a prompt in one update, d parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.experimental.ode import odeint

from sharpen.objective import InputError
from sharpen.toy.dynamics.estimators import EVERY_EPOCH, KL_PLACES, LOSSES, NEEDS_ENTROPY, Batch, Options
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting

FLOWS = ("natural-flow", "softmax-flow")
EXACT = ("natural", "mirror", "softmax", *FLOWS)
FLOW_ACCURACY = {"rtol": 1e-10, "atol": 1e-12}  # of one update; 1e-8 remains after thousands
KINDS = (*EXACT, *LOSSES)
OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(decay=0.9),
    "adam": lambda: optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
}


class Parameters(NamedTuple):
    """What is trained.

    Args:
        theta: Parameters of the policy.
        log_z: log Z of each prompt, shape [P, 1]; only ``tb`` moves it.
    """

    theta: Array
    log_z: Array


class State(NamedTuple):
    """What an update starts from.

    Args:
        parameters: Of the policy.
        moments: State of the optimizer.
        reference: Log-probabilities of p, shape [P, n]; moves only if the objective's reference does, when the update
            after the one that is due begins.
        error: Error of the log p that the objective sees, shape [P, n].
        behaviour: log-probabilities of the policy that ``off-policy`` samples from, shape [P, n].
        updates: Updates done.
    """

    parameters: Parameters
    moments: Any
    reference: Array
    error: Array
    behaviour: Array
    updates: Array


class Learner(NamedTuple):
    """A way to update the policy.

    Args:
        init: From a key to the state before the first update, at the base.
        step: From a state and a key to the next state.
    """

    init: Callable[[Array], State]
    step: Callable[[State, Array], State]


def check(kind: str, options: Options, kl_weight: float, step_size: float, separate: bool) -> None:
    """Refuse what a learner cannot run.

    Raises:
        InputError: unknown names, a step size that is no finite number > 0, fewer than two samples where a baseline
            needs them, trajectory balance without entropy, or a step size at which the natural gradient diverges.
    """
    if kind not in KINDS:
        raise InputError("learner", kind, ", ".join(KINDS))
    if not 0.0 < step_size < math.inf:
        raise InputError("step_size", step_size, "a finite number > 0")
    if options.optimizer not in OPTIMIZERS:
        raise InputError("optimizer", options.optimizer, ", ".join(OPTIMIZERS))
    if options.kl not in KL_PLACES:
        raise InputError("kl", options.kl, ", ".join(KL_PLACES))
    if kind in LOSSES and kind not in ("reinforce", "tb", "best-of-n") and options.group_size < 2:
        raise InputError("group_size", options.group_size, "at least 2: the baseline is the mean of the other samples")
    if kind in NEEDS_ENTROPY and kl_weight == 0.0:
        raise InputError("learner", kind, "an objective with entropy (mode sampling), which has a log Z")
    if kind in ("natural", "mirror") and separate and step_size * kl_weight >= 2.0:
        raise InputError("step_size", step_size, f"below {2.0 / kl_weight:g} for the natural gradient, as eta w_h < 2")


def make(kind: str, setting: Setting, family: Family, options: Options) -> Learner:
    """Return the learner ``kind``, one of ``KINDS``; :func:`check` says whether it can run.

    The exact ones, with A the pseudo-reward of every outcome and g = grad_theta J:

    - ``natural``: theta <- theta + eta F^+ g with the Fisher matrix F; for separate logits F^+ g is A up to a constant;
    - ``mirror``: the same for separate logits, where it is mirror descent with the entropy as mirror map;
    - ``softmax``: theta <- theta + eta g, the vanilla policy gradient;
    - ``natural-flow`` and ``softmax-flow``: the differential equations of which these are Euler's steps, followed for
      the time eta by an adaptive Runge-Kutta method. They take no optimizer.
    """
    optimizer = OPTIMIZERS[options.optimizer]()
    weight = jnp.asarray(setting.prompt_weight)

    def init(key: Array) -> State:
        theta = family.start(setting)
        parameters = Parameters(theta, jnp.zeros((weight.shape[0], 1), theta.dtype))
        base = jnp.asarray(setting.log_base)
        error = jnp.asarray(setting.base_noise) * jax.random.normal(key, base.shape, base.dtype)
        start = family.log_policy(setting, theta)
        return State(parameters, optimizer.init(parameters), base, error, start, jnp.zeros((), dtype=jnp.int64))

    def step(state: State, key: Array) -> State:
        if _lazily_normalised(kind, family, options):
            parameters, moments = _descend(optimizer, _affine_gradient(setting, state), state, setting)
            return state._replace(parameters=parameters, moments=moments, updates=state.updates + 1)
        log_pi = family.log_policy(setting, state.parameters.theta)
        state = _renewed(kind, setting, options, state, log_pi)
        if kind in EXACT:
            parameters, moments = _exact_update(kind, setting, family, optimizer, options, state, log_pi)
        else:
            parameters, moments = _sampled_update(kind, setting, family, optimizer, options, state, log_pi, key)
        return state._replace(parameters=parameters, moments=moments, updates=state.updates + 1)

    return Learner(init, step)


def pseudo_reward(setting: Setting, reward: Array, log_p: Array, log_pi: Array) -> Array:
    """Return A = on_reward r + on_reference log p + on_policy log pi, shape [P, n], a constant for gradients."""
    A = setting.on_reward * reward + setting.on_reference * log_p + setting.on_policy * log_pi
    return jax.lax.stop_gradient(jnp.asarray(A))


def _lazily_normalised(kind: str, family: Family, options: Options) -> bool:
    """Return whether an update is affine in logits that are known up to a constant a prompt.

    A natural step of separate logits against a frozen reference is: the constant that would centre A shifts every logit
    of a prompt alike, and stays such a shift. So the policy need not be computed until someone looks.
    """
    plain = family.separate and not options.reference_moves and options.optimizer != "adam"
    return plain and kind in ("natural", "mirror")


def _affine_gradient(setting: Setting, state: State) -> Parameters:
    theta = state.parameters.theta
    log_p = state.reference + state.error
    fixed = pseudo_reward(setting, jnp.asarray(setting.reward), log_p, jnp.zeros_like(theta))
    # Best outcomes at 0: the logits of what is left do not drift, and keep their digits.
    anchored = fixed - fixed.max(axis=-1, keepdims=True)
    return Parameters(-(anchored + setting.on_policy * theta), jnp.zeros_like(state.parameters.log_z))


def _renewed(kind: str, setting: Setting, options: Options, state: State, log_pi: Array) -> State:
    # Only what changes is written: the rest stays where it is in the compiled loop.
    if options.reference_moves:
        every = jnp.asarray(setting.refresh_every)
        due = (every > 0) & (state.updates % jnp.maximum(every, 1) == 0)
        state = state._replace(reference=jnp.where(due, log_pi, state.reference))
    if kind == "off-policy":
        state = state._replace(behaviour=jnp.where(state.updates % options.stale == 0, log_pi, state.behaviour))
    return state


def log_reference(setting: Setting, options: Options, state: State, log_pi: Array) -> Array:
    """Return the log p that the objective sees: with the reference ``policy`` that is pi at every moment."""
    if not options.reference_moves:
        return state.reference + state.error
    return jnp.where(setting.refresh_every < 0, log_pi, state.reference) + state.error


def _exact_update(
    kind: str,
    setting: Setting,
    family: Family,
    optimizer: optax.GradientTransformation,
    options: Options,
    state: State,
    log_pi: Array,
) -> tuple[Parameters, Any]:
    theta = state.parameters.theta
    method = "softmax" if kind.startswith("softmax") else "natural"
    if kind.endswith("-flow"):
        times = jnp.array([0.0, 1.0], theta.dtype) * setting.step_size

        def velocity(theta: Array, _: Array) -> Array:
            return _ascent(method, setting, family, options, state, theta, family.log_policy(setting, theta))

        path = odeint(velocity, theta, times, **FLOW_ACCURACY)
        return state.parameters._replace(theta=path[-1]), state.moments
    ascent = _ascent(method, setting, family, options, state, theta, log_pi)
    return _descend(optimizer, Parameters(-ascent, jnp.zeros_like(state.parameters.log_z)), state, setting)


def _ascent(
    method: str, setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array
) -> Array:
    """Return grad_theta J, or for ``natural`` F^+ grad_theta J, at theta, where the policy is ``log_pi``."""
    weight = jnp.asarray(setting.prompt_weight)
    pi = jax.nn.softmax(theta, axis=-1) if family.separate else jnp.exp(log_pi)  # shares log_pi's exponentials
    A = pseudo_reward(setting, jnp.asarray(setting.reward), log_reference(setting, options, state, log_pi), log_pi)
    centred = A - jnp.sum(pi * A, axis=-1, keepdims=True)
    if method == "softmax" and family.separate:
        return weight[:, None] * pi * centred
    if method == "softmax":
        _, pull = jax.vjp(partial(family.log_policy, setting), theta)
        return pull(weight[:, None] * pi * centred)[0]
    if family.separate:  # the prompts' weights cancel: F is block diagonal with the same weights
        return centred
    return _natural_direction(setting, family, theta, log_pi, centred)


def _natural_direction(setting: Setting, family: Family, theta: Array, log_pi: Array, centred: Array) -> Array:
    """Return F^+ g: the least-squares fit of A by the scores grad log pi, weighted by the policy (Kakade 2001)."""
    jacobian = jax.jacobian(partial(family.log_policy, setting))(theta)  # [P, n, d]
    scale = jnp.sqrt(jnp.asarray(setting.prompt_weight)[:, None] * jnp.exp(log_pi))
    rows = (scale[..., None] * jacobian).reshape(-1, theta.shape[0])
    return jnp.linalg.lstsq(rows, (scale * centred).ravel())[0]


def _sampled_update(
    kind: str,
    setting: Setting,
    family: Family,
    optimizer: optax.GradientTransformation,
    options: Options,
    state: State,
    log_start: Array,
    key: Array,
) -> tuple[Parameters, Any]:
    draw, disturb = jax.random.split(key)
    log_p = log_reference(setting, options, state, log_start)
    behaviour = state.behaviour if kind == "off-policy" else log_start
    samples_PG = _samples(draw, behaviour, options.group_size)

    def chosen(table: Array) -> Array:
        return jnp.take_along_axis(table, samples_PG, axis=-1)

    # on_reference holds the score's part and the KL pair's w_h; the pair is the estimators' to place.
    score = (setting.on_reference - setting.kl_weight) * log_p
    reward = chosen(jnp.asarray(setting.on_reward * setting.reward + score))
    if options.noisy_reward:
        noise = jax.random.normal(disturb, samples_PG.shape, log_start.dtype)
        reward = reward + setting.reward_noise * noise * chosen(jnp.asarray(setting.on_reward))
    batch = Batch(reward, chosen(log_p), chosen(behaviour), chosen(log_start))
    weight, w_h = jnp.asarray(setting.prompt_weight), jnp.asarray(setting.kl_weight)

    def loss(parameters: Parameters) -> Array:
        log_pi = chosen(family.log_policy(setting, parameters.theta))
        return LOSSES[kind](log_pi, batch, weight, w_h, parameters.log_z, options)

    for _ in range(options.epochs if kind in EVERY_EPOCH else 1):
        parameters, moments = _descend(optimizer, jax.grad(loss)(state.parameters), state, setting)
        state = state._replace(parameters=parameters, moments=moments)
    return state.parameters, state.moments


def _samples(key: Array, log_pi: Array, G: int) -> Array:
    """Return G independent outcomes of each prompt, shape [P, G], by inverting the cumulative probabilities."""
    cumulative = jnp.cumsum(jnp.exp(log_pi), axis=-1)
    at = jax.random.uniform(key, (log_pi.shape[0], G), log_pi.dtype) * cumulative[:, -1:]
    return jnp.sum(cumulative[:, None, :-1] <= at[..., None], axis=-1)


def _descend(
    optimizer: optax.GradientTransformation, gradient: Parameters, state: State, setting: Setting
) -> tuple[Parameters, Any]:
    change, moments = optimizer.update(gradient, state.moments)
    moved = jax.tree.map(lambda value, by: value - setting.step_size * by, state.parameters, change)
    return moved, moments
