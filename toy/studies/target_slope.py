"""Why a learner's effective alpha can stay near 1 while J, and even accuracy, rise: two accounts, each with runs.

- ``length``: to first order a change phi of log pi (E_p phi = 0), whatever learner or parametrisation made it, gains
  dJ = E_p[A phi] = (alpha - 1) Cov_p(log p, phi) under the tempered objective and moves the slope of log pi on log p by
  Cov_p(phi, log p) / Var_p(log p). So alpha_eff - 1 = dJ / ((alpha - 1) Var_p(log p)): the slope is the gain in J in
  units that grow with the length of sequences. One nat gained where log p scatters by 10 nats moves it by
  0.01 / (alpha - 1).
- ``capacity``: a policy that can only shift kinds of sequence, not sequences within a kind, keeps the slope 1 within
  each kind for ever. Once one kind holds the mass, that is the slope of the whole policy.

Axis letters: K records, S runs, n sequences, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, run_keys, stack, start
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.automata import sequences
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import setting
from sharpen.toy.studies.findings_core import Interval, over_seeds

TOKENS, HAZARD, LENGTHS = (0.7, 0.3), 0.02, (2, 4, 6)
KINDS_OF_SEQUENCE, EACH = 4, 24  # of the capacity account
ALPHA = 4.0
EARLY: dict[str, Any] = {"step_size": 0.02, "steps": 10}  # of the length account: a first order in the step
LATE: dict[str, Any] = {"step_size": 0.05, "steps": 2000}  # of the capacity account: to the end


class SlopeRow(NamedTuple):
    """Where the runs of one account end.

    Args:
        account: ``length`` or ``capacity``.
        name: What the policy is.
        variance: Var_p(log p), nats squared.
        gain: J(pi) - J(p) in nats.
        gained: The same over the possible gain KL(p || p^alpha).
        effective_alpha: The slope of log pi on log p under pi.
        predicted: 1 + gain / ((alpha - 1) Var_p(log p)), the first order.
        within: The slope within kinds; None for the length account.
        reward: E[r]; 0 for the length account, which has no reward.
        reward_base: E_p[r].
        reward_target: E[r] under p^alpha.
    """

    account: str
    name: str
    variance: float
    gain: Interval
    gained: Interval
    effective_alpha: Interval
    predicted: Interval
    within: Interval | None
    reward: Interval
    reward_base: float
    reward_target: float


def slope(log_pi: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Cov_pi(x, y) / Var_pi(x) over the last axis, for any shapes that broadcast."""
    pi = np.exp(log_pi)
    x = x - np.sum(pi * x, axis=-1, keepdims=True)
    return np.sum(pi * x * (y - np.sum(pi * y, axis=-1, keepdims=True)), axis=-1) / np.sum(pi * x * x, axis=-1)


def gain(log_pi: FloatArray, log_p: FloatArray, alpha: float) -> FloatArray:
    """Return J(pi) - J(p) = alpha (E_pi - E_p) log p + H(pi) - H(p), shape [...] of log_pi [..., n]."""
    pi, p = np.exp(log_pi), np.exp(log_p)
    value = np.sum(pi * (alpha * log_p - log_pi), axis=-1)
    return value - float(np.sum(p * (alpha - 1.0) * log_p))


def features_family(features: FloatArray) -> Family:
    """Return policies log pi = log softmax(log p + features theta), features of shape [n, d]: theta [d] starts at 0."""
    count = features.shape[1]
    return Family(
        lambda at: jnp.zeros(count, jnp.asarray(at.log_base).dtype),
        lambda at, theta: jax.nn.log_softmax(jnp.asarray(at.log_base) + (jnp.asarray(features) @ theta)[None], axis=-1),
        False,
    )


def kinds_problem() -> tuple[Problem, FloatArray]:
    """Return sequences of four kinds, 24 each, and the kinds as features, shape [96, 4].

    Kinds differ in mean log p, sequences within a kind scatter as much again. Of the likeliest kind 80 % are right, the
    likeliest first, of the others 30, 20 and 10 %.

    Example:
        >>> problem, kinds = kinds_problem()
        >>> problem.n, kinds.shape
        (96, (96, 4))
    """
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(KINDS_OF_SEQUENCE), EACH)
    within = np.sort(rng.standard_normal((KINDS_OF_SEQUENCE, EACH)), axis=1)[:, ::-1].ravel()
    log_p = -0.7 * kind + within
    log_p -= np.logaddexp.reduce(log_p)
    rank = np.tile(np.arange(EACH), KINDS_OF_SEQUENCE) / EACH
    right = rank < np.array([0.8, 0.3, 0.2, 0.1])[kind]
    return Problem.from_log(log_p, right.astype(float), np.ones(kind.size)), np.eye(KINDS_OF_SEQUENCE)[kind]


def _ends(problem: Problem, family: Family, step_size: float, steps: int, seeds: int) -> FloatArray:
    """Return log pi after RLOO's updates with 16 samples, shape [S, n]."""
    options = Options(reference_moves=False, noisy_reward=False)
    at = setting(Objective(alpha=ALPHA), problem, step_size)
    ensemble = Ensemble(Machine("rloo", family, options, log_policy_only), stack([at] * seeds), run_keys(0, seeds))
    *_, last = run(ensemble, start(ensemble), steps=steps, record_every=steps)
    return np.asarray(last.records)[-1, :, 0]


def row(account: str, name: str, log_pi: FloatArray, problem: Problem, kinds: FloatArray | None = None) -> SlopeRow:
    """Return what policies, shape [S, n], say about an account."""
    log_p = problem.log_base
    p, tilted = np.exp(log_p), ALPHA * log_p - np.logaddexp.reduce(ALPHA * log_p)
    variance = float(p @ (log_p - p @ log_p) ** 2)
    gained = gain(log_pi, log_p, ALPHA)
    return SlopeRow(
        account,
        name,
        variance,
        over_seeds(gained),
        over_seeds(gained / float(p @ (log_p - tilted))),
        over_seeds(slope(log_pi, log_p, log_pi)),
        over_seeds(1.0 + gained / ((ALPHA - 1.0) * variance)),
        None if kinds is None else over_seeds(within_kinds(log_pi, kinds, log_p)),
        over_seeds(np.exp(log_pi) @ problem.reward),
        float(p @ problem.reward),
        float(np.exp(tilted) @ problem.reward),
    )


def accounts(seeds: int = 64, progress: Callable[[str], None] = lambda name: None) -> list[SlopeRow]:
    """Return the rows of both accounts, from RLOO runs that aim at alpha = 4.

    Args:
        seeds: Runs of each row, at least 2.
        progress: Called with a row's name before its runs.

    Raises:
        InputError: fewer than two seeds.
    """
    if seeds < 2:
        raise InputError("seeds", seeds, "at least 2, for an interval")
    rows = []
    for longest in LENGTHS:
        progress(f"{longest} tokens")
        problem, family = sequences(np.array(TOKENS), HAZARD, longest, by_position=True)
        rows.append(row("length", f"{longest} tokens", _ends(problem, family, seeds=seeds, **EARLY), problem))
    problem, kinds = kinds_problem()
    for name, features in (("kinds only", kinds), ("kinds and log p", np.column_stack([kinds, problem.log_base]))):
        progress(name)
        ends = _ends(problem, features_family(features), seeds=seeds, **LATE)
        rows.append(row("capacity", name, ends, problem, kinds))
    return rows


def within_kinds(log_pi: FloatArray, kinds: FloatArray, log_p: FloatArray) -> FloatArray:
    """Return the slope of log pi on log p within kinds, pooled by mass, shape [S]."""
    pi = np.exp(log_pi)
    mass = pi @ kinds

    def centred(x: FloatArray) -> FloatArray:
        return x - ((pi * x) @ kinds / mass) @ kinds.T

    x = centred(np.broadcast_to(log_p, pi.shape))
    return np.sum(pi * x * centred(log_pi), axis=-1) / np.sum(pi * x * x, axis=-1)
