"""Self-sharpening: the map F(pi) = pi^alpha / Z, iterated, in closed form and in log space.

One round trains a policy to the tempered optimum of itself, pi -> pi^alpha / Z. After k rounds the policy is
p^(alpha^k) / Z, so the effective exponent alpha_eff = alpha^k is itself exponential in k.

Fixed points on m outcomes: the uniform distribution on each non-empty support S, 2^m - 1 of them. In a direction inside
S the Jacobian of F is alpha, |S| - 1 times. Towards an outcome outside S, where d pi_j^alpha / d pi_j is
alpha pi_j^(alpha - 1) at pi_j = 0, it is 0 for alpha > 1, 1 for alpha = 1 and infinite for alpha < 1. A direction is
stable when that number is below 1. See docs/theory-phase.md.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, potential_scale, top_face

MAX_LISTED = 10**6  # numbers (points times outcomes) in an explicit list of fixed points


@dataclass(frozen=True)
class Family:
    """The fixed points of F whose supports have ``smallest`` to ``largest`` outcomes: all of one class.

    Attributes:
        smallest: Least support size.
        largest: Greatest support size.
        count: How many supports there are, exactly.
        inside: Eigenvalue of the Jacobian of F within the support, |S| - 1 times.
        transversal: Eigenvalue towards each outcome outside the support, m - |S| times.
        kind: ``stable``, ``saddle``, ``unstable`` or ``neutral``.
        continuum: Whether the points are not isolated (alpha = 1, where every policy is fixed).
    """

    smallest: int
    largest: int
    count: int
    inside: float
    transversal: float
    kind: str
    continuum: bool


@dataclass(frozen=True, eq=False)
class MapFixedPoint:
    """The uniform policy on one support.

    Attributes:
        support: Indices of the outcomes with probability, ascending.
        probabilities: The policy, shape [m].
        eigenvalues: Of the Jacobian of F on the simplex, shape [m - 1], descending.
        kind: As in :class:`Family`.
    """

    support: tuple[int, ...]
    probabilities: FloatArray
    eigenvalues: FloatArray
    kind: str


@dataclass(frozen=True)
class Collapse:
    """When the likeliest outcome holds 1 - epsilon.

    Attributes:
        exponent: The effective exponent at which it does, solved from sum_j exp(-a gap_j) = epsilon / (1 - epsilon).
        rounds: The first whole number of rounds with alpha^rounds >= exponent.
        mass: The likeliest outcome's probability after that many rounds.
    """

    exponent: float
    rounds: int
    mass: float


def effective_alpha(alpha: float, rounds: int) -> float:
    """Return alpha^rounds, the exponent of the first policy after so many rounds (inf once it overflows).

    Raises:
        InputError: alpha is negative or not finite, or rounds is negative.

    Example:
        >>> effective_alpha(2.0, 5)
        32.0
    """
    _check_alpha(alpha)
    if rounds < 0:
        raise InputError("rounds", rounds, "a whole number >= 0")
    try:
        return float(alpha) ** rounds
    except OverflowError:
        return math.inf


def iterate(log_policy: ArrayLike, alpha: float, rounds: int) -> FloatArray:
    """Return log F^k(pi), that is alpha^k log pi less its logsumexp, shape [..., m], without iterating.

    Args:
        log_policy: log pi up to a constant, shape [..., m]; minus infinity stays minus infinity (alpha = 0 included).
        alpha: Exponent of one round, >= 0.
        rounds: k >= 0.

    Raises:
        InputError: alpha or rounds is out of range, or a policy has no finite log-probability.

    Example:
        >>> np.exp(iterate(np.log([0.6, 0.4]), 2.0, 2)).round(4).tolist()
        [0.8351, 0.1649]
    """
    exponent = effective_alpha(alpha, rounds)
    gap = _gaps(log_policy)
    # 0 * inf and inf * 0 are undefined in floating point, but the ties of the mode stay ties and lost outcomes lost.
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.where(gap == 0.0, 0.0, np.where(gap == -np.inf, -np.inf, exponent * gap))
    return scaled - np.log(np.sum(np.exp(scaled), axis=-1, keepdims=True))


def refresh(objective: Objective, problem: Problem, rounds: int) -> FloatArray:
    """Return log pi_k of the policies that replace the reference, k = 0 ... rounds, shape [rounds + 1, n].

    Each round trains to the end with the reference held at the last policy: pi_{k+1} is proportional to exp(u / w_h)
    with log p = log pi_k in the potential u. Without reward and length weighting it is F; with a reward and equal
    lengths log pi_k = alpha^k log p + beta_inv r (alpha^k - 1) / (alpha - 1) up to a constant.

    Args:
        objective: An objective with entropy (mode ``sampling``); its ``reference`` is not read.
        problem: n outcomes; the base is pi_0.
        rounds: At least 0.

    Raises:
        InputError: the objective has no entropy, rounds is negative, or a potential overflows.
    """
    w_h = objective.coefficients.w_h
    if w_h == 0.0:
        raise InputError("mode", objective.mode, "sampling, because without entropy one round has no unique optimum")
    if rounds < 0:
        raise InputError("rounds", rounds, "a whole number >= 0")
    inside = problem.support
    log_policies = np.full((rounds + 1, problem.n), -np.inf)
    log_policies[0] = problem.log_base
    for k in range(rounds):
        with np.errstate(over="ignore", invalid="ignore"):
            level = (
                objective.potential(
                    reward=problem.reward[inside],
                    ref_logprob=log_policies[k, inside],
                    length=problem.length[inside],
                )
                / w_h
            )
        if not np.all(np.isfinite(level)):
            raise InputError("rounds", rounds, f"at most {k} with alpha = {objective.alpha:g}: exponents overflow")
        with np.errstate(over="ignore"):
            scale = potential_scale(objective, problem.reward[inside], log_policies[k, inside], problem.length[inside])
        level = np.where(top_face(level, scale / w_h), 0.0, level - level.max())
        log_policies[k + 1, inside] = level - np.log(np.sum(np.exp(level)))
    return log_policies


def jacobian(policy: ArrayLike, alpha: float) -> FloatArray:
    """Return dF_i / d pi_j = alpha F_i (delta_ij - F_j) / pi_j at a policy with full support, shape [m, m].

    Raises:
        InputError: a probability is not positive and finite.
    """
    _check_alpha(alpha)
    pi = np.asarray(policy, dtype=np.float64)
    if pi.ndim != 1 or not np.all((pi > 0) & (pi < np.inf)):
        raise InputError("policy", policy, "a list of positive probabilities")
    image = np.exp(iterate(np.log(pi), alpha, 1))
    return alpha * image[:, None] * (np.eye(pi.size) - image[None, :]) / pi[None, :]


def families(alpha: float, outcomes: int) -> tuple[Family, ...]:
    """Return every fixed point of F on ``outcomes`` outcomes as at most three families, without listing any.

    Raises:
        InputError: alpha is out of range, or outcomes is below 1.

    Example:
        >>> [(family.kind, family.count) for family in families(2.0, 5)]
        [('stable', 5), ('saddle', 25), ('unstable', 1)]
    """
    _check_alpha(alpha)
    m = outcomes
    if m < 1:
        raise InputError("outcomes", m, "a whole number >= 1")
    across = 0.0 if alpha > 1 else 1.0 if alpha == 1 else math.inf
    if alpha == 1:
        return (Family(1, m, 2**m - 1, 1.0, across, "stable" if m == 1 else "neutral", m > 1),)
    if m == 1:
        return (Family(1, 1, 1, alpha, across, "stable", False),)
    vertices, full = (("stable", "unstable"), ("unstable", "stable"))[alpha < 1]
    found = [Family(1, 1, m, alpha, across, vertices, False), Family(m, m, 1, alpha, across, full, False)]
    if m > 2:
        found.insert(1, Family(2, m - 1, 2**m - m - 2, alpha, across, "saddle", False))
    order = ("stable", "saddle", "unstable")
    return tuple(sorted(found, key=lambda family: order.index(family.kind)))


def listed_fixed_points(alpha: float, outcomes: int) -> tuple[MapFixedPoint, ...]:
    """Return the fixed points of F one by one, by size and then by support.

    Raises:
        InputError: alpha is out of range, or the list would exceed 10^6 probabilities (16 outcomes).
    """
    groups = families(alpha, outcomes)
    m = outcomes
    if m > 60 or (2**m - 1) * m > MAX_LISTED:
        raise InputError(
            "outcomes", m, f"few enough for a list of {MAX_LISTED:,} probabilities; families() has no limit"
        )
    points = []
    for size in range(1, m + 1):
        family = next(group for group in groups if group.smallest <= size <= group.largest)
        eigenvalues = np.sort([family.inside] * (size - 1) + [family.transversal] * (m - size))[::-1]
        for support in itertools.combinations(range(m), size):
            probabilities = np.zeros(m)
            probabilities[list(support)] = 1.0 / size
            points.append(MapFixedPoint(support, probabilities, eigenvalues, family.kind))
    return tuple(points)


def log_residual(log_policy: ArrayLike, alpha: float, rounds: int) -> float:
    """Return log(1 - largest probability) after so many rounds, without cancellation.

    With one mode it tends to -alpha^k gap, gap the log-ratio of the two likeliest: the residual falls doubly
    exponentially in k.

    Example:
        >>> [round(log_residual(np.log([0.6, 0.4]), 2.0, k), 2) for k in range(6)]
        [-0.92, -1.18, -1.8, -3.28, -6.49, -12.97]
    """
    return log_lost(iterate(log_policy, alpha, rounds))


def log_lost(log_policy: ArrayLike) -> float:
    """Return log(1 - largest probability) of a policy given as log-probabilities, shape [m], without cancellation.

    Example:
        >>> log_lost([0.0, -1e6])
        -1000000.0
    """
    log_pi = np.asarray(log_policy, dtype=np.float64)
    others = np.delete(log_pi, int(np.argmax(log_pi)))
    top = np.max(others, initial=-np.inf)
    return float(top + np.log(np.sum(np.exp(others - top)))) if top > -np.inf else -math.inf


def collapse(log_policy: ArrayLike, alpha: float, epsilon: float) -> Collapse | None:
    """Return when the likeliest outcome holds at least 1 - epsilon, or None if no number of rounds gets it there.

    The probability of the mode of p^a is 1 / (1 + sum_j exp(-a gap_j)), gap_j = log p_mode - log p_j, which rises in a;
    so the exponent solves sum_j exp(-a gap_j) = epsilon / (1 - epsilon) (for two outcomes
    a = log((1 - epsilon) / epsilon) / gap), and rounds = ceil(log a / log alpha). It lies between
    log((1 - epsilon)/epsilon) / gap and log((m - 1)(1 - epsilon)/epsilon) / gap with the smallest gap.

    Args:
        log_policy: log p up to a constant, shape [m].
        alpha: Exponent of one round.
        epsilon: In (0, 1).

    Raises:
        InputError: an argument is out of range.

    Example:
        >>> collapse(np.log([0.6, 0.4]), 2.0, 1e-6).rounds
        6
    """
    _check_alpha(alpha)
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon", epsilon, "a number between 0 and 1")
    gap = -_gaps(log_policy)
    others = np.delete(gap, int(np.argmin(gap)))
    exponent = _collapse_exponent(others[others < np.inf], epsilon)
    if exponent is None or (exponent > 1.0 and alpha <= 1.0):
        return None
    rounds = 0 if exponent <= 1.0 else max(math.ceil(math.log(exponent) / math.log(alpha)), 1)
    while rounds > 0 and effective_alpha(alpha, rounds - 1) >= exponent:
        rounds -= 1  # log and division rounded up across a whole number
    while effective_alpha(alpha, rounds) < exponent:
        rounds += 1
    return Collapse(exponent, rounds, float(np.exp(iterate(log_policy, alpha, rounds).max())))


def _collapse_exponent(gaps: FloatArray, epsilon: float) -> float | None:
    """Return the a with sum_j exp(-a gap_j) = epsilon / (1 - epsilon), 0 if every a >= 0 is enough, None if none is."""
    from scipy.optimize import brentq

    log_odds = math.log(epsilon) - math.log1p(-epsilon)
    if gaps.size == 0 or math.log(gaps.size) <= log_odds:
        return 0.0
    least = float(gaps.min())
    ties = int(np.sum(gaps == 0.0))
    if ties and math.log(ties) >= log_odds:
        return None  # reached in the limit at best
    if ties:
        least = float(gaps[gaps > 0].min())

    def excess(a: float) -> float:
        return float(np.log(np.sum(np.exp(-a * gaps)))) - log_odds

    rest = epsilon / (1 - epsilon) - ties
    high = math.log(max((gaps.size - ties) / rest, 1.0)) / least
    if not math.isfinite(high):
        return None
    while excess(high) > 0:  # the bound is exact in real arithmetic; rounding may leave it short by an ulp
        high = np.nextafter(high * (1 + 1e-15), math.inf)
    root = brentq(excess, 0.0, high, xtol=1e-300, rtol=4 * np.finfo(float).eps)
    assert isinstance(root, float)  # full_output would add a report
    return root


def _gaps(log_policy: ArrayLike) -> FloatArray:
    """Return log pi - max log pi, shape [..., m]."""
    log_pi = np.asarray(log_policy, dtype=np.float64)
    if log_pi.ndim == 0 or log_pi.shape[-1] == 0:
        raise InputError("policy", log_policy, "at least one log-probability")
    top = np.max(log_pi, axis=-1, keepdims=True)
    if not np.all((top > -np.inf) & (top < np.inf)):
        raise InputError("policy", log_policy, "log-probabilities, at least one of them finite")
    return np.where(top_face(log_pi, own_scale(log_pi)), 0.0, log_pi - top)  # what ties stays tied for every exponent


def _check_alpha(alpha: float) -> None:
    if not 0.0 <= alpha < math.inf:
        raise InputError("alpha", alpha, "a finite number >= 0")
