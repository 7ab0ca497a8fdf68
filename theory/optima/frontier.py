"""What a budget of KL to the base buys: reward against KL, and the frontier between task reward and sharpening.

An objective's potential is u = w_h log p + f with f = w_r r + (w_p - w_h) s (docs/objective.md). Of all policies with
KL(pi || p) <= B those of largest E[f] are

    pi_t proportional to p exp(t f),   KL(pi_t || p) = B,   d KL / dt = t Var(f) >= 0,

or, if no t is large enough, p conditioned on arg max f, whose KL is -log p(arg max f) <= B (Lagrange; E[f] is linear
and the KL strictly convex). pi_t is the Gibbs optimum at alpha = 1 + t (w_p - w_h) and beta_inv = t w_r. So power
(f = s), tilt (f = r) and every mixture are solved by one search in t, and the Pareto frontier between E[r] and E[s]
under a budget is traced by f = cos(angle) r + sin(angle) s, in units of their standard deviations under p. Without a
budget it is the upper right side of the convex hull of the points (s_i, r_i).

Policies are log-probabilities throughout, so outcomes whose p underflows take part. E[log p] = -H - KL, a sum of terms
of one sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective, functional
from sharpen.theory.core import backend
from sharpen.theory.core.backend import Family, Parameter
from sharpen.theory.core.change import kl_to_base
from sharpen.theory.core.frames import Columns
from sharpen.theory.core.goals import Goals, conditioned, goals_of, reach, spread_of
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import leaders, own_scale, reward_scale
from sharpen.theory.core.tilt import LEAST_KL
from sharpen.theory.core.tilt import at_kl as at_kl_of_ray
from sharpen.theory.optima.response import entropic_family

REACHED = 1e-9  # a KL closer than this to its supremum, relatively, is met by no parameter that is resolved
MOST_POINTS = 10_001


@dataclass(frozen=True, eq=False)
class KlCurve(Columns):
    """The optimum on a grid of one parameter, seen from the base; all shapes [G].

    Attributes:
        over: ``alpha`` or ``beta_inv``.
        grid: The parameter.
        kl: KL(pi || p), nats.
        expected_reward: E[r].
        log_likelihood: E[log p], nats.
        entropy: H(pi), nats.
    """

    over: Parameter
    grid: FloatArray
    kl: FloatArray
    expected_reward: FloatArray
    log_likelihood: FloatArray
    entropy: FloatArray


@dataclass(frozen=True, eq=False)
class Member:
    """A policy p exp((alpha - 1) s + beta_inv r) / Z; infinite parameters stand for p conditioned on arg max f.

    Attributes:
        alpha: Exponent of the likelihood; below 0 where a flattening objective goes beyond the uniform policy.
        beta_inv: Weight of the reward.
        kl: KL to the base, nats.
        expected_reward: E[r].
        expected_score: E[s], which is E[log p] without length normalisation.
        log_likelihood: E[log p], nats.
        entropy: H, nats.
        log_probabilities: log pi, shape [n].
    """

    alpha: float
    beta_inv: float
    kl: float
    expected_reward: float
    expected_score: float
    log_likelihood: float
    entropy: float
    log_probabilities: FloatArray


@dataclass(frozen=True, eq=False)
class Frontier(Columns):
    """Policies of which no other one within the budget has more E[r] and no less E[s], or the reverse; shapes [G].

    They go from the task reward's end to sharpening's. An end whose arg max is shared by several outcomes is the policy
    that spends what is left of the budget on the other goal.

    Attributes:
        alpha: Parameter of each policy, infinite where the budget is not used up.
        beta_inv: Parameter of each policy, likewise.
        kl: KL to the base, nats.
        expected_reward: E[r].
        expected_score: E[s].
        log_likelihood: E[log p], nats.
    """

    alpha: FloatArray
    beta_inv: FloatArray
    kl: FloatArray
    expected_reward: FloatArray
    expected_score: FloatArray
    log_likelihood: FloatArray


@dataclass(frozen=True, eq=False)
class Hull(Columns):
    """The Pareto frontier over all policies on the base's support: a chain of outcomes and the mixtures of neighbours.

    Attributes:
        outcomes: Indices from the highest reward to the highest score, shape [k]; of equal outcomes the first.
        expected_reward: r there, falling, shape [k].
        expected_score: s there, rising, shape [k].
        exchange: alpha/beta_inv at which r + (alpha/beta_inv) s is equal at neighbours, rising, shape [k - 1]. Without
            entropy the optimum is outcome i between exchange i - 1 and i.
    """

    outcomes: np.ndarray
    expected_reward: FloatArray
    expected_score: FloatArray
    exchange: FloatArray


def kl_curve(objective: Objective, problem: Problem, over: Parameter, grid: ArrayLike) -> KlCurve:
    """Return KL to the base, E[r], E[log p] and entropy of the optimum on a grid of alpha or beta_inv.

    Args:
        objective: In mode ``sampling`` with a frozen reference; its own value of the parameter is not read.
        problem: n outcomes.
        over: ``alpha`` or ``beta_inv``.
        grid: Values of the parameter, finite and >= 0, shape [G].

    Raises:
        InputError: the objective has no entropy or a moving reference, the grid has a wrong value, or the potential
            overflows on it.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = kl_curve(Objective(), DEFAULT_PROBLEM, "alpha", [1, 2, 4])
        >>> found.kl.round(3).tolist(), found.expected_reward.round(3).tolist()
        ([0.0, 0.111, 0.487], [0.37, 0.289, 0.136])
    """
    t = np.asarray(grid, dtype=np.float64)
    if t.ndim != 1 or not t.size or not np.all((t >= 0) & (t < np.inf)):
        raise InputError("grid", grid, "finite numbers >= 0")
    members = entropic_family(objective, problem, over)
    rows = np.array([_numbers(problem, _law(members, x)) for x in t.tolist()]).T
    reward, entropy, kl = rows
    return KlCurve(over, t, kl, reward, -(entropy + kl), entropy)


def at_kl(objective: Objective, problem: Problem, kl: float) -> Member | None:
    """Return the policy of largest E[f] among those with this KL to the base, or None if no parameter reaches the KL.

    The ratio of (alpha - 1) to beta_inv stays the objective's (of alpha to beta_inv in mode ``optimization``), so
    ``Objective(alpha=2)`` asks for the power p^alpha and ``Objective(alpha=1, beta_inv=1)`` for the tilt p exp(beta r).

    Args:
        objective: Names f; with a frozen reference.
        problem: n outcomes.
        kl: KL to the base in nats, >= 0.

    Raises:
        InputError: the KL is negative or not finite, the objective's optimum is the base, or its reference moves.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = at_kl(Objective(alpha=2.0), DEFAULT_PROBLEM, 0.2)
        >>> round(found.alpha, 4), round(found.expected_reward, 4)
        (2.4491, 0.2494)
    """
    _check_kl(kl)
    if objective.refresh_every is not None:
        raise InputError("reference", objective.reference, "frozen, so that there is a base to keep near")
    objective.require_plain("a ray of optima")
    w = objective.coefficients
    if w.w_r == 0.0 and w.w_p == w.w_h:
        raise InputError("alpha", objective.alpha, "an objective whose optimum is not the base")
    found, _ = _best(problem, goals_of(objective, problem), w.w_r, w.w_p - w.w_h, kl, math.sqrt(2.0 * kl))
    return None if math.isinf(found.alpha) or math.isinf(found.beta_inv) else found


def frontier(objective: Objective, problem: Problem, kl: float, points: int = 33) -> Frontier:
    """Return the Pareto frontier between E[r] and E[s] over all policies with KL(pi || p) <= kl.

    Args:
        objective: Only its length normalisation is read, which makes s of log p.
        problem: n outcomes.
        kl: The budget in nats, >= 0.
        points: Number of policies, at equal steps of the angle between r and s.

    Raises:
        InputError: the budget is negative or not finite, the number of points is not from 2 to 10,001, or the
            normalization is ``none``, which has no score.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = frontier(Objective(), DEFAULT_PROBLEM, 0.2, 3)
        >>> found.expected_reward.round(3).tolist(), found.log_likelihood.round(3).tolist()
        ([0.682, 0.589, 0.249], [-1.539, -1.321, -1.141])
    """
    _check_kl(kl)
    if not 2 <= points <= MOST_POINTS:
        raise InputError("points", points, f"a whole number from 2 to {MOST_POINTS}")
    goals = goals_of(objective, problem)
    spread = [spread_of(problem, x) for x in (goals.reward, _score(objective, problem))]
    found: list[Member] = []
    guess = math.sqrt(2.0 * kl)
    for angle in np.linspace(0.0, 0.5 * math.pi, points).tolist():
        weights = (math.cos(angle) / spread[0], math.sin(angle) / spread[1])
        if angle == 0.0:
            found.append(_end(problem, goals, (weights[0], 0.0), (0.0, 1.0 / spread[1]), kl))
        elif angle == 0.5 * math.pi:
            found.append(_end(problem, goals, (0.0, weights[1]), (1.0 / spread[0], 0.0), kl))
        else:
            member, guess = _best(problem, goals, *weights, kl, guess)
            found.append(member)
    names = ("alpha", "beta_inv", "kl", "expected_reward", "expected_score", "log_likelihood")
    return Frontier(*(np.array([getattr(each, name) for each in found]) for name in names))


def hull(objective: Objective, problem: Problem) -> Hull:
    """Return the Pareto frontier between E[r] and E[s] over all policies on the base's support.

    Args:
        objective: Only its length normalisation is read.
        problem: n outcomes.

    Raises:
        InputError: the normalization is ``none``.

    Example:
        >>> found = hull(Objective(), Problem([0.5, 0.3, 0.2], [0, 1, 1]))
        >>> found.outcomes.tolist(), found.exchange.round(4).tolist()
        ([1, 0], [1.9576])
    """
    inside = np.flatnonzero(problem.support)
    reward, score = problem.reward.copy(), _score(objective, problem)
    reward[inside] = leaders(reward[inside], reward_scale(reward[inside]))
    score[inside] = leaders(score[inside], own_scale(score[inside]))
    order = inside[np.lexsort((-score[inside], -reward[inside]))]  # stable: of equal ones the first stays
    ahead = np.maximum.accumulate(score[order])
    better = np.concatenate([[True], score[order[1:]] > ahead[:-1]])
    chain: list[int] = []
    for i in order[better].tolist():
        while len(chain) >= 2 and _above(reward, score, chain[-2], chain[-1], i) <= 0.0:
            chain.pop()
        chain.append(i)
    kept = np.array(chain)
    r, s = reward[kept], score[kept]
    return Hull(kept, r, s, -np.diff(r) / np.diff(s))


def _above(r: FloatArray, s: FloatArray, a: int, b: int, c: int) -> float:
    """Return how far b is outside the chord from a to c, up to a positive factor; s rises and r falls from a to c."""
    return float((r[b] - r[a]) * (s[c] - s[a]) - (r[c] - r[a]) * (s[b] - s[a]))


def _score(objective: Objective, problem: Problem) -> FloatArray:
    """Return s, shape [n], 0 outside the base's support."""
    if objective.normalization == "none":
        raise InputError("normalization", "none", "sum, mean or weighted_mean: without a score there is no sharpening")
    log_p = np.where(problem.support, problem.log_base, 0.0)
    return functional.score(log_p, problem.length, objective.length_exponent)


def _check_kl(kl: float) -> None:
    if not 0.0 <= kl < math.inf:
        raise InputError("kl", kl, "a finite number of nats >= 0")


def _best(problem: Problem, goals: Goals, w_r: float, w_s: float, kl: float, guess: float) -> tuple[Member, float]:
    """Return the policy of largest E[f], f = w_r r + w_s s, within the budget; its parameters are t w_r and 1 + t w_s.

    Where the budget is not used up, or only to within what a parameter can resolve, t is infinite. The search starts
    from a guess of t times the spread of f, and what it finds is the next one's guess.
    """
    f = goals.combined(w_r, w_s)
    face = goals.face(problem, f, w_r, w_s)
    if kl > LEAST_KL and kl >= reach(problem, face) * (1.0 - REACHED):
        law = _change(problem, conditioned(problem, face))
        return _member(problem, goals, law, _times(math.inf, w_s), _times(math.inf, w_r)), guess
    spread = spread_of(problem, f)
    t, change, found = at_kl_of_ray(problem.log_base, f, kl, guess / spread)
    return _member(problem, goals, change, _times(t, w_s), _times(t, w_r), found), t * spread or guess


def _end(problem: Problem, goals: Goals, first: tuple[float, float], then: tuple[float, float], kl: float) -> Member:
    """Return the policy of largest E[f] for the weights ``first``, and among those of largest E[f] for ``then``.

    If the budget reaches the face arg max f, its policies are those of p conditioned on the face, p_F, and
    KL(pi || p) = KL(pi || p_F) - log p(F): the rest of the budget is spent there.
    """
    found, _ = _best(problem, goals, *first, kl, math.sqrt(2.0 * kl))
    if math.isfinite(found.alpha) and math.isfinite(found.beta_inv):
        return found
    face = Problem.from_log(found.log_probabilities, problem.reward, problem.length)
    f = np.where(face.support, goals.combined(*then), 0.0)  # with the score of p, not of p_F
    tied = goals.face(face, f, *then)
    rest = max(0.0, kl - found.kl)
    t, law = math.inf, conditioned(face, tied)
    if rest <= LEAST_KL or rest < reach(face, tied) * (1.0 - REACHED):
        t, change, _ = at_kl_of_ray(face.log_base, f, rest, math.sqrt(2.0 * rest) / spread_of(face, f))
        law = face.log_base + change
    w_r, w_s = (_times(math.inf, a) + _times(t, b) for a, b in zip(first, then, strict=True))
    return _member(problem, goals, _change(problem, law), w_s, w_r)


def _times(t: float, weight: float) -> float:
    return 0.0 if weight == 0.0 else t * weight


def _law(members: Family, t: float) -> FloatArray:
    """Return log pi_t, shape [n].

    Raises:
        InputError: the potential overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        exponent = members.offset + t * members.slope
        top = float(np.max(exponent))
    if not math.isfinite(top):
        raise InputError("grid", t, "values for which the potential does not overflow")
    return backend.gibbs(exponent)


def _numbers(problem: Problem, log_policy: FloatArray) -> tuple[float, float, float]:
    """Return E[r], entropy and KL to the base."""
    with np.errstate(invalid="ignore", over="ignore"):  # outside the policy's support, where nothing is read
        found = backend.summarize(Objective(), log_policy, problem.reward, problem.log_base)
    return float(found.expected_reward), float(found.entropy), max(0.0, float(found.kl_to_base))


def _change(problem: Problem, log_policy: FloatArray) -> FloatArray:
    """Return log(pi / p), shape [n]; 0 outside the base's support."""
    return np.where(problem.support, log_policy - np.where(problem.support, problem.log_base, 0.0), 0.0)


def _member(
    problem: Problem, goals: Goals, change: FloatArray, shift: float, beta_inv: float, kl: float | None = None
) -> Member:
    """Return the policy with its numbers; its parameters are alpha = 1 + shift and beta_inv."""
    log_policy = problem.log_base + change
    reward = score = entropy = 0.0
    for at in backend.blocks(log_policy):
        log_pi = log_policy[at]
        pi = np.exp(log_pi)
        reward += float(pi @ goals.reward[at])
        score += float(pi @ goals.score[at])
        entropy -= float(pi @ (log_pi if log_pi.min() > -np.inf else np.where(pi > 0.0, log_pi, 0.0)))
    kl = kl_to_base(problem.log_base, change) if kl is None else kl
    return Member(1.0 + shift, beta_inv, kl, reward, score, -(entropy + kl), entropy, log_policy)
