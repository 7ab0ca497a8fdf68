"""Updates of a tabular policy, each a pair of pure functions over an explicit state.

A learner is ``init(key) -> State`` and ``step(state, key) -> State``. Exact learners follow the gradient of J computed
on every outcome; sampled ones (`sharpen.toy.estimators`) see G samples of each prompt. The pseudo-reward's weights come
from the objective (`sharpen.toy.setting`).

Axis letters: P prompts, n outcomes of a prompt, G samples of a prompt in one update, d parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.experimental.ode import odeint
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.toy.estimators import EVERY_EPOCH, KL_PLACES, LOSSES, NEEDS_ENTROPY, Batch, Options
from sharpen.toy.policies import Family
from sharpen.toy.setting import Setting

EXACT = ("natural", "mirror", "softmax", "natural-flow", "softmax-flow")
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
        log_pi: Log-probabilities of the policy, shape [P, n].
        moments: State of the optimizer.
        reference: Log-probabilities of p, shape [P, n]; moves only if the objective's reference does.
        error: Error of the log p that the objective sees, shape [P, n].
        behaviour: log-probabilities of the policy that ``off-policy`` samples from, shape [P, n].
        updates: Updates done.
    """

    parameters: Parameters
    log_pi: Array
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
        InputError: unknown names, fewer than two samples where a baseline needs them, trajectory balance without
            entropy, or a step size at which the natural gradient diverges.
    """
    if kind not in KINDS:
        raise InputError("learner", kind, ", ".join(KINDS))
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
        parameters = Parameters(theta, jnp.zeros((weight.shape[0], 1)))
        base = jnp.asarray(setting.log_base)
        error = jnp.asarray(setting.base_noise) * jax.random.normal(key, base.shape)
        start = family.log_policy(setting, theta)
        return State(parameters, start, optimizer.init(parameters), base, error, start, jnp.zeros((), dtype=jnp.int64))

    def step(state: State, key: Array) -> State:
        if kind in EXACT:
            parameters, moments = _exact_update(kind, setting, family, optimizer, options, state)
        else:
            parameters, moments = _sampled_update(kind, setting, family, optimizer, options, state, key)
        return _after(kind, setting, family, options, state, parameters, moments)

    return Learner(init, step)


def pseudo_reward(setting: Setting, reward: Array, log_p: Array, log_pi: Array) -> Array:
    """Return A = on_reward r + on_reference log p + on_policy log pi, shape [P, n], a constant for gradients."""
    A = setting.on_reward * reward + setting.on_reference * log_p + setting.on_policy * log_pi
    return jax.lax.stop_gradient(jnp.asarray(A))


def _after(
    kind: str, setting: Setting, family: Family, options: Options, state: State, parameters: Parameters, moments: Any
) -> State:
    log_pi = family.log_policy(setting, parameters.theta)
    if family.separate:  # keeps logits from growing without bound
        parameters = parameters._replace(theta=log_pi)
    updates, reference, behaviour = state.updates + 1, state.reference, state.behaviour
    # Only what changes is written: the rest stays where it is in the compiled loop.
    if options.reference_moves:
        due = (setting.refresh_every > 0) & (updates % jnp.maximum(setting.refresh_every, 1) == 0)
        reference = jnp.where(due, log_pi, reference)
    if kind == "off-policy":
        behaviour = jnp.where(updates % options.stale == 0, log_pi, behaviour)
    return State(parameters, log_pi, moments, reference, state.error, behaviour, updates)


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
) -> tuple[Parameters, Any]:
    theta = state.parameters.theta
    method = "softmax" if kind.startswith("softmax") else "natural"
    if kind.endswith("-flow"):
        times = jnp.array([0.0, 1.0]) * setting.step_size

        def velocity(theta: Array, _: Array) -> Array:
            return _ascent(method, setting, family, options, state, theta, family.log_policy(setting, theta))

        path = odeint(velocity, theta, times, **FLOW_ACCURACY)
        return state.parameters._replace(theta=path[-1]), state.moments
    ascent = _ascent(method, setting, family, options, state, theta, state.log_pi)
    return _descend(optimizer, Parameters(-ascent, jnp.zeros_like(state.parameters.log_z)), state, setting)


def _ascent(
    method: str, setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array
) -> Array:
    """Return grad_theta J, or for ``natural`` F^+ grad_theta J, at theta, where the policy is ``log_pi``."""
    pi, weight = jnp.exp(log_pi), jnp.asarray(setting.prompt_weight)
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
    key: Array,
) -> tuple[Parameters, Any]:
    draw, disturb = jax.random.split(key)
    log_start = state.log_pi
    log_p = log_reference(setting, options, state, log_start)
    behaviour = state.behaviour if kind == "off-policy" else log_start
    P, G = log_start.shape[0], options.group_size
    samples_PG = jax.random.categorical(draw, behaviour, axis=-1, shape=(G, P)).T

    def chosen(table: Array | NDArray[Any]) -> Array:
        return jnp.take_along_axis(jnp.broadcast_to(jnp.asarray(table), log_start.shape), samples_PG, axis=-1)

    noise = setting.reward_noise * jax.random.normal(disturb, samples_PG.shape)
    task = chosen(setting.on_reward) * (chosen(setting.reward) + noise)
    # on_reference holds the score's part and the KL pair's w_h; the pair is the estimators' to place.
    likelihood = chosen((setting.on_reference - setting.kl_weight) * log_p)
    batch = Batch(task + likelihood, chosen(log_p), chosen(behaviour), chosen(log_start))
    weight, w_h = jnp.asarray(setting.prompt_weight), jnp.asarray(setting.kl_weight)

    def loss(parameters: Parameters) -> Array:
        log_pi = chosen(family.log_policy(setting, parameters.theta))
        return LOSSES[kind](log_pi, batch, weight, w_h, parameters.log_z, options)

    for _ in range(options.epochs if kind in EVERY_EPOCH else 1):
        parameters, moments = _descend(optimizer, jax.grad(loss)(state.parameters), state, setting)
        state = state._replace(parameters=parameters, moments=moments)
    return state.parameters, state.moments


def _descend(
    optimizer: optax.GradientTransformation, gradient: Parameters, state: State, setting: Setting
) -> tuple[Parameters, Any]:
    change, moments = optimizer.update(gradient, state.moments)
    moved = jax.tree.map(lambda value, by: value - setting.step_size * by, state.parameters, change)
    return moved, moments
