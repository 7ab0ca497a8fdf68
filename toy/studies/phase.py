"""Where a learner goes on the 2-simplex: the vector field of its mean update, nullclines and rest points.

A sampled learner's update is random. Its mean over every group of G samples from three outcomes is a sum over the
C(G + 2, 2) multisets (`sharpen.theory.estimators.exact.enumerate_groups`), so the field here is exact, not simulated:

    d theta / dt = E[Delta theta] / eta,    d pi_i / dt = pi_i (theta'_i - E_pi theta').

For an unbiased learner that is the softmax-gradient flow of `sharpen.theory.core.flow`, whatever G; for a biased one it
is another field, with places of rest of its own. The exact learners' fields, and the objective's fixed points and
classes, are the theory's (`sharpen.theory.instability.phase`).

Axis letters: M policies, N multisets, G samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.estimators.exact import enumerate_groups
from sharpen.theory.instability.phase import Portrait, null_curves, portrait, simplex_grid
from sharpen.theory.instability.phase_curves import growth, log_softmax, zero_curves
from sharpen.theory.instability.stationary import classify
from sharpen.theory.optima.optimum import optimum
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.updates import check, check_utility
from sharpen.toy.learners.parts.estimates import success_slopes
from sharpen.toy.learners.parts.learner import Batch, ExactLearner, Options, SampledLearner
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.setting import LARGEST, setting

Velocity = Callable[[FloatArray], FloatArray]  # from policies [..., 3] to d pi / dt [..., 3]
MOST_SAMPLES = 64  # C(66, 2) = 2145 multisets a policy
BLOCK = 2**18  # policies x multisets in one pass: below 200 MB for groups of 64
LEARNER_GRID = 121  # of nullclines, a side
SEARCH = 16  # rest points are looked for from the SEARCH^2 centres of a grid
AT_REST = 1e-8  # speed at a rest point, over the largest on the grid
FARTHEST = 30.0  # of the logits in that search
SAME = 1e-4  # distance of rest points that are one
INSIDE = 1e-3  # least probability of a rest point that counts as interior
DIFFERENCE = 1e-5  # of finite differences, in logits


class RestPoint(NamedTuple):
    """An interior policy that a learner's mean update does not move.

    Args:
        policy: Probabilities, shape [3].
        eigenvalues: Real parts of those of the linearisation in logits, shape [2], descending, in units of 1 / (eta t).
        kind: Its class, see :func:`sharpen.theory.instability.stationary.classify`.
        kl_optimum: KL(policy || pi*) in nats; None without a Gibbs optimum.
    """

    policy: FloatArray
    eigenvalues: FloatArray
    kind: str
    kl_optimum: float | None


@dataclass(frozen=True, eq=False)
class LearnerPortrait:
    """A learner's phase portrait on three outcomes: everything that `sharpen toy phase` shows.

    Attributes:
        learner: Its name.
        theory: The portrait of the exact flow beside it: fixed points, basins, borders.
        velocity: The learner's field.
        rest: Interior rest points of a sampled learner's field; empty for exact learners, whose are the theory's.
        cosine: Of the learner's mean update and the gradient of J in logits, at the base; None where either is 0.
        gain: Length of the mean update over that of the gradient, at the base; None where the gradient is 0.
    """

    learner: str
    theory: Portrait
    velocity: Velocity
    rest: tuple[RestPoint, ...]
    cosine: float | None
    gain: float | None


def learner_portrait(
    objective: Objective,
    problem: Problem,
    learner: str = "rloo",
    *,
    group_size: int = 16,
    kl: str = "k1-reward",
    step_size: float = 0.2,
) -> LearnerPortrait:
    """Return the portrait of a learner on three outcomes.

    Args:
        objective: ``reference = refresh:K`` is answered as ``policy``.
        problem: Three outcomes of positive base probability.
        learner: Name of one whose state is the policy alone (not ``tb``).
        group_size: G of a sampled learner.
        kl: Where its KL estimate stands.
        step_size: eta; matters only to learners of several epochs a batch, whose later steps see the earlier ones.

    Raises:
        InputError: a name is unknown, the learner cannot run, or the problem has no portrait.

    Example:
        >>> from sharpen.objective import preset
        >>> problem = Problem([0.5, 0.3, 0.2], [0, 1, 0])
        >>> found = learner_portrait(preset("tempered"), problem, "rloo", group_size=4)
        >>> round(found.cosine, 9), found.rest[0].kind, found.rest[0].policy.round(3)
        (1.0, 'stable', array([0.658, 0.237, 0.105]))
    """
    options = Options(group_size=group_size, kl=kl, reference_moves=objective.refresh_every is not None)
    _check(objective, problem, learner, options, step_size)
    part = LEARNERS.get(learner)
    found = portrait(objective, problem, part.field or "softmax")
    if isinstance(part, ExactLearner):
        velocity: Velocity = partial(flow_velocity, found)
        return LearnerPortrait(learner, found, velocity, (), *_compare(velocity, velocity, problem))
    velocity = mean_velocity(objective, problem, learner, options, step_size)
    rest = rest_points(velocity, objective, problem)
    return LearnerPortrait(learner, found, velocity, rest, *_compare(velocity, partial(flow_velocity, found), problem))


def _check(objective: Objective, problem: Problem, learner: str, options: Options, step_size: float) -> None:
    objective.refuse_utility("the toy's phase portraits")
    part = LEARNERS.get(learner)
    if isinstance(part, ExactLearner):
        if part.field is None:
            raise InputError("learner", learner, "a sampled learner, or an exact one along a flow of the theory")
    elif part.learns_log_z:
        raise InputError("learner", learner, "tb-batch, or any other: a learned log Z is a fourth coordinate")
    elif not 2 <= options.group_size <= MOST_SAMPLES:
        raise InputError("group_size", options.group_size, f"2 to {MOST_SAMPLES}, whose groups can be enumerated")
    check(learner, options, objective.coefficients.w_h, step_size, separate=True)
    check_utility(learner, options, objective, [problem], step_size)


def flow_velocity(found: Portrait, policies: FloatArray) -> FloatArray:
    """Return d pi / dt of the portrait's exact flow, shape [..., 3] as ``policies``."""
    return policies * growth(found.line, np.log(policies), found.field)


def mean_velocity(objective: Objective, problem: Problem, learner: str, options: Options, step_size: float) -> Velocity:
    """Return the field of a sampled learner's mean update, exact over every group of samples.

    Args:
        objective: What is maximised.
        problem: Three outcomes.
        learner: Name of a sampled one that learns no log Z.
        options: Of the learner.
        step_size: eta.

    Raises:
        InputError: the learner is exact, or there is none of that name.
    """
    part = LEARNERS.get(learner)
    if not isinstance(part, SampledLearner):
        raise InputError("learner", learner, "a sampled learner")
    G = options.group_size
    uniform = np.full(3, 1.0 / 3.0)
    groups = enumerate_groups(uniform, G)
    log_orders = np.log(groups.probability) + G * np.log(3.0)  # log G! / prod k!: of any policy, not only this one
    members = np.stack([np.repeat(np.arange(3), row.astype(int)) for row in groups.counts])  # [N, G]
    update = mean_over_groups(objective, problem, part, options, step_size, log_orders, members)

    def velocity(policies: FloatArray) -> FloatArray:
        flat = np.log(policies.reshape(-1, 3))
        # Two shapes only, one policy and a block of them, because each is compiled.
        size = 1 if len(flat) == 1 else max(2, min(512, BLOCK // (len(members) * max(1, G // 8))))
        with jax.enable_x64():
            blocks = [_padded(update, flat[first : first + size], size) for first in range(0, len(flat), size)]
        moved = np.concatenate(blocks)
        pi = np.exp(flat)
        return (pi * (moved - np.sum(pi * moved, axis=1, keepdims=True))).reshape(policies.shape)

    return velocity


def _padded(update: Callable[[jax.Array], jax.Array], log_pi: FloatArray, size: int) -> FloatArray:
    """Evaluate a block of at most ``size`` policies, filled up to that size."""
    filled = np.concatenate([log_pi, np.repeat(log_pi[:1], size - len(log_pi), axis=0)])
    return np.asarray(update(jnp.asarray(filled)))[: len(log_pi)]


def mean_over_groups(
    objective: Objective,
    problem: Problem,
    learner: SampledLearner,
    options: Options,
    step_size: float,
    log_orders: FloatArray,
    members: np.ndarray,
) -> Callable[[jax.Array], jax.Array]:
    """Return the jitted map from log pi [M, n] to E[Delta theta] / eta [M, n] of a learner's own loss.

    Args:
        objective: What is maximised.
        problem: n outcomes.
        learner: A sampled one; a learned log Z is 0.
        options: Of the learner.
        step_size: eta.
        log_orders: For each group that is visited, the logarithm of how many ordered ones it stands for, shape [N].
        members: Their outcomes, shape [N, G].
    """
    counts = np.stack([np.sum(members == x, axis=1) for x in range(problem.n)], axis=1).astype(np.float64)
    at = setting(objective, problem, step_size)
    w_h, one = jnp.asarray(at.kl_weight), jnp.ones(1)
    score = np.asarray(at.on_reference)[0] - at.kl_weight  # the KL pair is the estimators' to place
    earned = np.asarray(at.on_reward)[0] * problem.reward
    moving = objective.refresh_every is not None
    epochs = options.epochs if learner.several_epochs else 1

    def of_group(log_start: jax.Array, group: jax.Array) -> jax.Array:
        log_p = log_start if moving else jnp.asarray(problem.log_base)
        reward = (earned + score * log_p)[group][None]
        logs = (log_p[group][None], log_start[group][None], log_start[group][None])
        batch = Batch(reward, *logs, jnp.asarray(earned)[group][None], length=jnp.asarray(problem.length)[group][None])
        if learner.utility == "any" and options.utility != "identity":
            batch = batch._replace(slope=success_slopes(options.utility, jnp.asarray(batch.task)))

        def loss(theta: jax.Array) -> jax.Array:
            log_pi = jax.nn.log_softmax(theta)[group][None]
            return learner.loss(log_pi, batch, one, w_h, jnp.zeros((1, 1)), options)

        theta = log_start
        for _ in range(epochs):
            theta = theta - step_size * jax.grad(loss)(theta)
        return (theta - log_start) / step_size

    def of_policy(log_pi: jax.Array) -> jax.Array:
        weight = jnp.exp(jnp.asarray(log_orders) + jnp.asarray(counts) @ log_pi)
        return weight @ jax.vmap(partial(of_group, log_pi))(jnp.asarray(members))

    return quickly(jax.vmap(of_policy), busy=True)


def learner_nullclines(found: LearnerPortrait) -> tuple[tuple[FloatArray, ...], ...]:
    """Return, for each outcome, the curves on which the learner leaves its probability alone, shapes [k, 3].

    Those of an exact learner are the theory's, on its finer grid.
    """
    if LEARNERS.get(found.learner).exact:
        return null_curves(found.theory)
    return zero_curves(found.velocity, LEARNER_GRID)


def rest_points(velocity: Velocity, objective: Objective, problem: Problem) -> tuple[RestPoint, ...]:
    """Return the interior rest points of a field that were found, by falling probability of outcome 0.

    They are looked for by Powell's hybrid method from the slowest places of a grid, and at the objective's optimum,
    where a standardised advantage is 0 but jumps; a field that vanishes everywhere has none that are listed.
    """
    from scipy.optimize import fsolve

    def rates(logits: FloatArray) -> FloatArray:
        """Return d/dt of the two log-ratios to the last outcome."""
        pi = np.exp(log_softmax(np.append(np.clip(logits, -FARTHEST, FARTHEST), 0.0)))
        speed = velocity(pi[None])[0] / pi
        return speed[:2] - speed[2]

    grid = simplex_grid(SEARCH)
    speeds = np.linalg.norm(velocity(grid), axis=1)
    top = float(speeds.max())
    if not top > 1e-12:
        return ()
    gibbs = objective.coefficients.w_h > 0 and objective.refresh_every is None
    optimal = optimum(objective, problem).log_probabilities if gibbs else None
    ends = [fsolve(rates, np.log(pi[:2] / pi[2]), xtol=1e-13, full_output=True)[0] for pi in grid[_slow(grid, speeds)]]
    if optimal is not None:
        ends.insert(0, optimal[:2] - optimal[2])
    found: list[RestPoint] = []
    for logits in ends:
        pi = np.exp(log_softmax(np.append(np.clip(logits, -FARTHEST, FARTHEST), 0.0)))
        still = pi.min() > INSIDE and np.linalg.norm(velocity(pi[None])[0]) <= AT_REST * top
        if still and all(np.linalg.norm(pi - other.policy) > SAME for other in found):
            values = _eigenvalues(rates, logits)
            kl = None if optimal is None else max(float(pi @ (np.log(pi) - optimal)), 0.0)
            found.append(RestPoint(pi, values, classify(values), kl))
    return tuple(sorted(found, key=lambda point: -point.policy[0]))


def _slow(grid: FloatArray, speeds: FloatArray) -> np.ndarray:
    """Return the indices of grid points no faster than any neighbour, and of a few spread ones."""
    distance = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
    near = distance < 1.5 * np.sqrt(2.0) / SEARCH
    local = np.flatnonzero(speeds <= np.where(near, speeds[None], np.inf).min(axis=1))
    return np.unique(np.concatenate([local, np.arange(0, len(grid), len(grid) // 6)]))


def _eigenvalues(rates: Callable[[FloatArray], FloatArray], at: FloatArray) -> FloatArray:
    columns = [(rates(at + step) - rates(at - step)) / (2 * DIFFERENCE) for step in DIFFERENCE * np.eye(2)]
    values = np.linalg.eigvals(np.array(columns).T).real
    return np.sort(np.asarray(values, dtype=np.float64))[::-1]


def _compare(velocity: Velocity, flow: Velocity, problem: Problem) -> tuple[float | None, float | None]:
    """Return the cosine and the ratio of lengths of two fields at the base, in centred logits."""
    pi = problem.base[None]
    moved, true = (of(pi)[0] / problem.base for of in (velocity, flow))
    top = float(np.abs(true).max())
    unit = top if top > LARGEST else 1.0  # an exact flow's numbers may be so large that their squares are none
    moved, true = (side / unit - np.mean(side / unit) for side in (moved, true))
    size, length = float(np.linalg.norm(true)), float(np.linalg.norm(moved))
    if size <= 1e-12:
        return None, None
    return (float(moved @ true) / (size * length) if length > 1e-12 else None), length / size
