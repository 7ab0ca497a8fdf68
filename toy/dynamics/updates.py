"""Updates of a tabular policy, each a pair of pure functions over an explicit state.

An update is ``init(key) -> State`` and ``step(state, key) -> State``. What a learner adds, a direction or a loss, is in
its own file (`sharpen.toy.learners`). The pseudo-reward's weights come from the objective
(`sharpen.toy.problems.setting`).

Axis letters: P prompts, n outcomes of a prompt, G samples of a prompt in one update, d parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.experimental.ode import odeint

from sharpen.objective import InputError, Objective
from sharpen.objective.counts import least_samples
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.sampling import samples
from sharpen.toy.learners.parts import affine
from sharpen.toy.learners.parts.estimates import success_slopes
from sharpen.toy.learners.parts.learner import (
    EPSILON,
    KL_PLACES,
    Batch,
    ExactLearner,
    Learner,
    Options,
    Parameters,
    SampledLearner,
    State,
    log_reference,
)
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting
from sharpen.toy.problems.utility import restoring_rate

FLOW_ACCURACY = {"rtol": 1e-10, "atol": 1e-12}  # of one update; 1e-8 remains after thousands
OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": lambda _: optax.identity(),
    "momentum": lambda _: optax.trace(decay=0.9),
    "adam": lambda epsilon: optax.scale_by_adam(b1=0.9, b2=0.999, eps=epsilon),
}


class Update(NamedTuple):
    """A way to update the policy.

    Args:
        init: From a key to the state before the first update, at the base.
        step: From a state and a key to the next state.
        leap: From a state and a number of updates to the map that does them all at once, for every state of the same
            run; None where there is no closed form (:func:`leaps`).
    """

    init: Callable[[Array], State]
    step: Callable[[State, Array], State]
    leap: Callable[[State, Array], Callable[[State], State]] | None = None


def check(kind: str, options: Options, kl_weight: float, step_size: float, separate: bool) -> None:
    """Refuse what a learner cannot run.

    Raises:
        InputError: unknown names, an epsilon that is no number > 0 or that no Adam reads, a step size that is no finite
            number > 0, fewer than two samples where a baseline needs them, trajectory balance without entropy, or a
            step size at which the natural gradient diverges.
    """
    learner = LEARNERS.get(kind)
    if not 0.0 < step_size < math.inf:
        raise InputError("step_size", step_size, "a finite number > 0")
    if options.optimizer not in OPTIMIZERS:
        raise InputError("optimizer", options.optimizer, ", ".join(OPTIMIZERS))
    if not 0.0 < options.epsilon < math.inf:
        raise InputError("epsilon", options.epsilon, "a finite number > 0")
    if options.epsilon != EPSILON and options.optimizer != "adam":
        raise InputError(
            "epsilon", options.epsilon, f"{EPSILON:g} unless every optimizer is adam, which alone reads it"
        )
    if options.kl not in KL_PLACES:
        raise InputError("kl", options.kl, ", ".join(KL_PLACES))
    if isinstance(learner, SampledLearner):
        if options.group_size < learner.samples:
            allowed = f"at least {learner.samples}: the baseline is the mean of the other samples"
            raise InputError("group_size", options.group_size, allowed)
        if learner.needs_entropy and kl_weight == 0.0:
            raise InputError("learner", kind, "an objective with entropy (mode sampling), which has a log Z")
    elif learner.field == "natural" and not learner.flow and separate and step_size * kl_weight >= 2.0:
        raise InputError("step_size", step_size, f"below {2.0 / kl_weight:g} for the natural gradient, as eta w_h < 2")


def check_utility(
    kind: str,
    options: Options,
    objective: Objective,
    problems: Iterable[Problem],
    step_size: float,
    reward_noise: float = 0.0,
) -> None:
    """Refuse what of the reward a learner does not follow, or a step of the natural gradient that jumps over its end.

    Args:
        kind: Of the learner.
        options: Of the learner.
        objective: What is maximised.
        problems: The outcomes of each prompt.
        step_size: eta.
        reward_noise: Standard deviation of noise on sampled rewards.

    Raises:
        InputError: it is so.
    """
    learner = LEARNERS.get(kind)
    if isinstance(learner, SampledLearner):
        if learner.counts_right and reward_noise:
            raise InputError("reward_noise", reward_noise, f"0 for the learner {kind}, which counts right answers")
        _check_sampled(kind, learner, options, objective, problems)
    elif objective.utility != "identity" and learner.field == "natural" and not learner.flow:
        rate = max(restoring_rate(objective, problem) for problem in problems)
        if step_size * rate >= 2.0:
            allowed = f"below {2.0 / rate:.3g} for the natural gradient, whose steps jump over this optimum"
            raise InputError("step_size", step_size, allowed)


def _check_sampled(
    kind: str, learner: SampledLearner, options: Options, objective: Objective, problems: Iterable[Problem]
) -> None:
    name = objective.utility
    if learner.utility == "pass@K":
        if not name.startswith("pass@"):
            raise InputError("utility", name, f"pass@K for the learner {kind}, which takes its K from there")
    elif name != "identity" and learner.utility not in ("any", name):
        own = "" if learner.utility == "none" else f" or {learner.utility}"
        followers = LEARNERS.where(lambda name: getattr(LEARNERS.get(name), "utility", "none") == "any")
        allowed = f"identity{own} for the learner {kind}; any for {', '.join(followers)} and the exact learners"
        raise InputError("utility", name, allowed)
    if least_samples(name) > options.group_size:
        raise InputError("utility", name, f"pass@K with K up to the samples of an update, {options.group_size}")
    if learner.counts_right:
        if objective.coefficients.w_r == 0.0:
            raise InputError("learner", kind, "an objective with a task reward (beta_inv > 0), which it counts")
        if not all(np.all(np.isin(problem.reward, (0.0, 1.0))) for problem in problems):
            raise InputError("learner", kind, "rewards 0 and 1, which it counts")


def make(kind: str, setting: Setting, family: Family, options: Options) -> Update:
    """Return the update of a learner by its name; :func:`check` says whether it can run."""
    learner = LEARNERS.get(kind)
    optimizer = OPTIMIZERS[options.optimizer](options.epsilon)

    def init(key: Array) -> State:
        return initial(setting, family, options.optimizer, base_error(setting, key))

    def step(state: State, key: Array) -> State:
        if learner.on_logits is not None and _lazily_normalised(family, options):
            line = learner.on_logits(setting, state)
            ascent = line.push + line.rate * state.parameters.theta
            gradient = Parameters(-ascent, jnp.zeros_like(state.parameters.log_z))
            parameters, moments = _descend(optimizer, gradient, state, setting)
            return state._replace(parameters=parameters, moments=moments, updates=state.updates + 1)
        log_pi = family.log_policy(setting, state.parameters.theta)
        state = _renewed(learner, setting, options, state, log_pi)
        if isinstance(learner, ExactLearner):
            parameters, moments = _exact_update(learner, setting, family, optimizer, options, state, log_pi)
        else:
            parameters, moments = _sampled_update(learner, setting, family, optimizer, options, state, log_pi, key)
        return state._replace(parameters=parameters, moments=moments, updates=state.updates + 1)

    def leap(state: State, count: Array) -> Callable[[State], State]:
        assert learner.on_logits is not None  # leaps
        by = affine.leap(learner.on_logits(setting, state), jnp.asarray(setting.step_size), count)

        def at_once(state: State) -> State:
            moved = state.parameters._replace(theta=by.factor * state.parameters.theta + by.shift)
            return state._replace(parameters=moved, updates=state.updates + count)

        return at_once

    return Update(init, step, leap if leaps(kind, family, options) else None)


def initial(setting: Setting, family: Family, optimizer: str, error: Array | None = None) -> State:
    """Return the state before the first update, at the base: of every learner, whatever its loss.

    Args:
        setting: Of the run.
        family: Of the policies.
        optimizer: Its name.
        error: Of the log p that the objective sees (:func:`base_error`), shape [P, n]; None for 0.
    """
    theta = family.start(setting)
    base = jnp.asarray(setting.log_base)
    parameters = Parameters(theta, jnp.zeros((base.shape[0], 1), theta.dtype))
    error = jnp.zeros_like(base) if error is None else error
    moments = OPTIMIZERS[optimizer](EPSILON).init(parameters)
    return State(parameters, moments, base, error, family.log_policy(setting, theta), jnp.zeros((), dtype=jnp.int64))


def base_error(setting: Setting, key: Array) -> Array:
    """Return an error of log p with the setting's ``base_noise``, shape [P, n]."""
    base = jnp.asarray(setting.log_base)
    return jnp.asarray(setting.base_noise) * jax.random.normal(key, base.shape, base.dtype)


def leaps(kind: str, family: Family, options: Options) -> bool:
    """Return whether many updates of a learner have a closed form: plain steps along an affine direction."""
    return (
        LEARNERS.get(kind).on_logits is not None and _lazily_normalised(family, options) and options.optimizer == "sgd"
    )


def _lazily_normalised(family: Family, options: Options) -> bool:
    """Return whether updates are affine in logits, and may leave these known up to a constant a prompt."""
    plain = options.utility == "identity" and not options.reference_moves
    return family.separate and plain and options.optimizer != "adam"


def _renewed(learner: Learner, setting: Setting, options: Options, state: State, log_pi: Array) -> State:
    # Only what changes is written: the rest stays where it is in the compiled loop.
    if options.reference_moves:
        every = jnp.asarray(setting.refresh_every)
        due = (every > 0) & (state.updates % jnp.maximum(every, 1) == 0)
        state = state._replace(reference=jnp.where(due, log_pi, state.reference))
    if isinstance(learner, SampledLearner) and learner.stale:
        state = state._replace(behaviour=jnp.where(state.updates % options.stale == 0, log_pi, state.behaviour))
    return state


def _exact_update(
    learner: ExactLearner,
    setting: Setting,
    family: Family,
    optimizer: optax.GradientTransformation,
    options: Options,
    state: State,
    log_pi: Array,
) -> tuple[Parameters, Any]:
    theta = state.parameters.theta
    if learner.flow:
        times = jnp.array([0.0, 1.0], theta.dtype) * setting.step_size

        def velocity(theta: Array, _: Array) -> Array:
            return learner.direction(setting, family, options, state, theta, family.log_policy(setting, theta))

        path = odeint(velocity, theta, times, **FLOW_ACCURACY)
        return state.parameters._replace(theta=path[-1]), state.moments
    ascent = learner.direction(setting, family, options, state, theta, log_pi)
    return _descend(optimizer, Parameters(-ascent, jnp.zeros_like(state.parameters.log_z)), state, setting)


def _sampled_update(
    learner: SampledLearner,
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
    behaviour = state.behaviour if learner.stale else log_start
    samples_PG = samples(draw, behaviour, options.group_size)

    def chosen(table: Array) -> Array:
        return jnp.take_along_axis(table, samples_PG, axis=-1)

    # on_reference holds the score's part and the KL pair's w_h; the pair is the estimators' to place.
    score = (setting.on_reference - setting.kl_weight) * log_p
    batch = Batch(
        chosen(jnp.asarray(setting.on_reward * setting.reward + score)),
        chosen(log_p),
        chosen(behaviour),
        chosen(log_start),
        chosen(jnp.asarray(setting.on_reward * setting.reward)),
        length=chosen(jnp.asarray(setting.length)),
    )
    batch = _judged(batch, setting, options, chosen(jnp.asarray(setting.on_reward)), disturb)
    if learner.utility == "any" and options.utility != "identity":
        batch = batch._replace(slope=success_slopes(options.utility, jnp.asarray(batch.task)))
    weight, w_h = jnp.asarray(setting.prompt_weight), jnp.asarray(setting.kl_weight)

    def loss(parameters: Parameters) -> Array:
        log_pi = chosen(family.log_policy(setting, parameters.theta))
        return learner.loss(log_pi, batch, weight, w_h, parameters.log_z, options)

    for _ in range(options.epochs if learner.several_epochs else 1):
        parameters, moments = _descend(optimizer, jax.grad(loss)(state.parameters), state, setting)
        state = state._replace(parameters=parameters, moments=moments)
    return state.parameters, state.moments


def _judged(batch: Batch, setting: Setting, options: Options, on_reward: Array, key: Array) -> Batch:
    """Return a batch with what the verifier says of its samples, and with noise on their rewards."""
    if not (options.noisy_verifier or options.noisy_reward):
        return batch
    task = true = jnp.asarray(batch.task)
    if options.noisy_verifier:
        right = setting.false_positive + (setting.true_positive - setting.false_positive) * (task > 0)
        drawn = jax.random.uniform(jax.random.fold_in(key, 1), task.shape, task.dtype)
        task = on_reward * (drawn < right)
    if options.noisy_reward:
        task = task + setting.reward_noise * jax.random.normal(key, task.shape, task.dtype) * on_reward
    return batch._replace(reward=batch.reward + (task - true), task=task)


def _descend(
    optimizer: optax.GradientTransformation, gradient: Parameters, state: State, setting: Setting
) -> tuple[Parameters, Any]:
    change, moments = optimizer.update(gradient, state.moments)
    moved = jax.tree.map(lambda value, by: value - setting.step_size * by, state.parameters, change)
    return moved, moments
