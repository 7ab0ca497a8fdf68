"""Where the expected reward of p^alpha turns, with a certificate that no turning point was missed.

Outcomes of equal score s keep their ratios, so with W_g and R_g the mass and the mean reward of the outcomes with
s = x_g, E[r] = sum_g W_g R_g exp(alpha x_g) / sum_g W_g exp(alpha x_g). If R rises or falls with x all the way, so does
E[r] with alpha (Chebyshev's sum inequality). Otherwise ranges [a, b] of alpha, w wide, are halved until each holds no
zero of the derivative g = Cov(r, s) or is shorter than the resolution.

The certificate. g leaves its chord by at most w^2/8 max |g''|, so it has no zero if g_a and g_b have one sign and
min(|g_a|, |g_b|) > w^2/8 B with a bound B of |g''|. With e = s - E[s], any reward R_0 and v = |r - R_0|,

    g'' = E[(r - R_0) e^3] - E[r - R_0] E[e^3] - 3 Var(s) Cov(r, s),
    |g''| <= A^3 + Q T^3 + 3 T^2 A Q^(2/3),     A^3 = E[v |e|^3],  T^3 = E[|e|^3],  Q = E[v]

(Hoelder for the last term). To bound these on all of [a, b] from its ends: log Z is convex, and its slopes E_a[s] and
E_b[s] are d apart, while log sum_g W_g f_g exp(alpha x_g) is convex for every f >= 0, so
E[f] <= exp(w d / 4) max(E_a[f], E_b[f]) in between. E[s] stays within d/2 of the middle of its two ends, and
Minkowski's inequality moves the centre of the third moments. B is the least bound over a few R_0: the middle of the
rewards (where v <= (max r - min r)/2 may be used), and extremes that nearly all outcomes may share.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.core import backend
from sharpen.theory.core.backend import BLOCK, Family, Moments
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.core.ties import TIE_TOLERANCE, leaders, own_scale, reward_scale

RESOLUTION = 1e-9  # turning points this close to each other, relatively above 1, are not told apart
MOST_RANGES = 10**5  # ranges of alpha to look at; ordinary problems need a few hundred
MOST_DOUBLINGS = 1000  # up to 1e301
SETTLED = 1e-16  # mass off the outcomes that decide the limit of E[r]; its turning points there are lost in rounding
WIDEST = 200.0  # w d above which exp(w d / 4) makes the bound useless


class Groups(NamedTuple):
    """Outcomes of equal score as one.

    Attributes:
        members: The family over alpha: log masses, scores x ascending, and mean rewards R, shapes [m].
        constant: Whether R is the same everywhere.
        monotone: Whether R rises, or falls, with x all the way.
    """

    members: Family
    constant: bool
    monotone: bool


def groups_of(members: Family) -> Groups:
    """Return a family's outcomes with equal scores merged; outside the base's support they are dropped."""
    inside = members.offset > -np.inf
    order = np.argsort(members.slope[inside], kind="stable")
    x, log_w, r = (array[inside][order] for array in (members.slope, members.offset, members.reward))
    merged = _merge(Family(log_w, x, r), np.diff(x) > 0.0)
    # Rounding splits scores that are equal on paper; a step of R between two such scores is no fact about the problem.
    apart = np.diff(leaders(merged.slope, own_scale(merged.slope))) > 0.0
    mean = _merge(merged, apart).reward
    steps = np.diff(leaders(mean, np.full_like(mean, np.abs(r).max())))
    return Groups(merged, not steps.any(), bool(np.all(steps >= 0.0) or np.all(steps <= 0.0)))


def moments_of(members: Family, grid: FloatArray) -> Moments:
    """Return the moments of a family on a grid.

    Raises:
        InputError: the potential overflows on it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = backend.moments(members, grid)
    if not np.all(np.isfinite(found.log_partition) & np.isfinite(found.covariance)):
        raise InputError("grid", float(grid.max()), "values for which the potential does not overflow")
    return found


def sign_changes(groups: Groups, low: float, high: float) -> list[tuple[float, int]]:
    """Return every alpha in (low, high) at which dE[r]/d alpha changes sign, ascending, with its sign before.

    Raises:
        InputError: the derivative is so close to 0 on a range that its sign is not decided.
    """
    if groups.monotone:
        return []
    high = min(high, settled_from(groups, also_decided=False))
    if high <= low:
        return []
    at, sign = _signs(groups, low, high)
    # Undecided ends of the shortest ranges have sign 0 and lie between ends whose sign is certified.
    known = np.flatnonzero(sign).tolist()
    return [
        (_root(groups, float(at[a]), float(at[b])), int(sign[a]))
        for a, b in itertools.pairwise(known)
        if sign[a] != sign[b]
    ]


def settled_from(groups: Groups, also_decided: bool) -> float:
    """Return an alpha > 1 beyond which E[r] is its limit to rounding or, if asked, moves towards it all the way.

    With x_0 > x_1 > ... and j the first group with R_j != R_0, Z^2 dE[r]/d alpha is the sum over pairs g < h of
    w_g w_h (R_g - R_h)(x_g - x_h), w = W exp(alpha x). Divided by w_0 w_j the pair (0, j) is constant. Of the others,
    those with g < j and R_h on R_j's side of R_0 have its sign. The rest are at most max R - min R times their
    w_g w_h (x_g - x_h), which fall in alpha.

    Raises:
        InputError: scores that differ lie so close together that no such alpha is found.
    """
    log_w, x, reward = (array[::-1] for array in groups.members)
    j = int(np.argmax(np.abs(reward - reward[0]) > TIE_TOLERANCE * reward_scale(reward)))
    lead = abs(reward[j] - reward[0]) * (x[0] - x[j])
    tail, opposed = slice(j + 1, None), (reward[j + 1 :] - reward[0]) * (reward[j] - reward[0]) < 0.0
    alpha = 2.0
    for _ in range(MOST_DOUBLINGS):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows, or is inf times 0, has not settled
            u = np.exp(log_w - log_w[0] + alpha * (x - x[0]))
            v = np.exp(log_w[tail] - log_w[j] + alpha * (x[tail] - x[j]))
            rest = (v * opposed) @ (x[0] - x[tail]) * u[:j].sum() + v @ (x[j] - x[tail]) * u[j:].sum()
            decided = also_decided and np.ptp(reward) * rest < lead
        if u[j:].sum() <= SETTLED or decided:
            return alpha
        alpha *= 2.0
    raise InputError("base", "likelihoods too close together", "outcomes whose log p differ by more than 1e-12")


def _merge(sorted_: Family, apart: np.ndarray) -> Family:
    """Return groups of neighbours that are not apart, with the log of their mass and their mean reward."""
    starts = np.concatenate([[0], np.flatnonzero(apart) + 1])
    if starts.size == sorted_.slope.size:
        return sorted_
    top = np.maximum.reduceat(sorted_.offset, starts)
    sizes = np.diff(np.append(starts, sorted_.slope.size))
    mass = np.exp(sorted_.offset - np.repeat(top, sizes))
    total = np.add.reduceat(mass, starts)
    # Deviations from the group's first reward: equal rewards have exactly that mean.
    first = sorted_.reward[starts]
    mean = first + np.add.reduceat(mass * (sorted_.reward - np.repeat(first, sizes)), starts) / total
    return Family(top + np.log(total), sorted_.slope[starts], mean)


def _signs(groups: Groups, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """Return points of the range, ascending, and the derivative's sign there, so that it changes only between them.

    Between neighbours the derivative has no zero, or they are ends of ranges of the least width.
    """
    away = _distances(groups.members.reward)
    at = np.array([low, high], dtype=np.float64)
    found = _numbers(groups.members, away, at)
    done = np.zeros(1, dtype=bool)
    while not done.all():
        width = np.diff(at)
        done = done | (width <= RESOLUTION * np.maximum(1.0, at[1:]))
        open_ = np.flatnonzero(~done)
        done[open_] = _certified(found[:, open_], found[:, open_ + 1], width[open_])
        split = np.flatnonzero(~done)
        if at.size + split.size > MOST_RANGES:
            raise InputError("alpha range", [low, high], "one on which the derivative of E[r] is not 0 to rounding")
        if split.size:
            middle = 0.5 * (at[split] + at[split + 1])
            at = np.insert(at, split + 1, middle)
            found = np.insert(found, split + 1, _numbers(groups.members, away, middle), axis=1)
            done = np.insert(done, split + 1, False)
    return at, np.sign(found[0])


def _distances(reward: FloatArray) -> FloatArray:
    """Return upper bounds of v = |R - R_0|, shape [4, m], for R_0 the middle, least, largest and last reward."""
    least, largest, last = reward.min(), reward.max(), reward[-1]
    middle = np.full_like(reward, 0.5 * (largest - least))
    return np.stack([middle, reward - least, largest - reward, np.abs(reward - last)])


def _numbers(members: Family, away: FloatArray, at: FloatArray) -> FloatArray:
    """Return what :func:`_certified` reads, shape [10, points]: Cov(r, s), E[s], E[v] and E[v |e|^3] of each v."""
    found = moments_of(members, at)
    mean, third = np.zeros((4, at.size)), np.zeros((4, at.size))
    width = max(1, BLOCK // members.slope.size)
    for start in range(0, at.size, width):
        some = slice(start, start + width)
        for low in range(0, members.slope.size, BLOCK):
            block = slice(low, low + BLOCK)
            x = members.slope[block]
            share = np.exp(members.offset[block] + at[some, None] * x - found.log_partition[some, None])
            mean[:, some] += away[:, block] @ share.T
            third[:, some] += away[:, block] @ (share * np.abs(x - found.slope[some, None]) ** 3).T
    return np.concatenate([found.covariance[None], found.slope[None], mean, third])


def _certified(left: FloatArray, right: FloatArray, width: FloatArray) -> np.ndarray:
    """Return which ranges hold no zero of the covariance, by the bound in the module's description."""
    one_sign = np.sign(left[0]) * np.sign(right[0]) > 0
    enough = np.minimum(np.abs(left[0]), np.abs(right[0])) > _curvature(left, right, width) * width**2 / 8.0
    return one_sign & enough & (width * (right[1] - left[1]) < WIDEST)


def _curvature(left: FloatArray, right: FloatArray, width: FloatArray) -> FloatArray:
    """Return B >= |g''| on ranges of alpha, shape [ranges], from the numbers at their ends, shapes [10, ranges]."""
    drift = np.maximum(right[1] - left[1], 0.0)
    growth = np.exp(np.minimum(width * drift, WIDEST) / 4.0)
    q = growth * np.maximum(left[2:6], right[2:6])
    ends = [np.cbrt(side[6:]) + 0.5 * drift * np.cbrt(side[2:6]) for side in (left, right)]
    a = np.cbrt(growth) * np.maximum(*ends) + 0.5 * drift * np.cbrt(q)
    t = a[0] / np.cbrt(left[2])  # the first v is constant
    return np.min(a**3 + q * t**3 + 3.0 * t**2 * a * np.cbrt(q) ** 2, axis=0)


def _root(groups: Groups, low: float, high: float) -> float:
    """Return a zero of the covariance between two points where its signs differ."""
    from scipy.optimize import brentq

    def covariance(alpha: float) -> float:
        return float(moments_of(groups.members, np.array([alpha])).covariance[0])

    root = brentq(covariance, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps)
    assert isinstance(root, float)  # full_output would add a report
    return root
