"""How far the optimum moves when likelihood or reward are wrong: derivatives, worst case and random errors.

With entropy the optimum is softmax(v), v = u / w_h, and each v_i is linear in log p_i and in r_i, with gains g_i:
dv_i/dlog p_i = (w_p - w_h) / (w_h |x_i|^w) + 1, which is alpha without length normalisation, and dv_i/dr_i = w_r / w_h.
So d pi_i / d log p_j = pi_i (delta_ij - pi_j) g_j.

Worst case of errors |delta_i| <= eps: every policy softmax(v + d) with |d_i| <= e_i = g_i eps differs from pi most, in
total variation, at a corner: for the set S of outcomes that gain, pi'(S) - pi(S) rises in d on S and falls off it, so

    max TV = max over S of f(S) = m t / (m t + 1 - m) - m,  m = pi(S), t = e^(2e)  (equal gains),

which is concave in m and largest, tanh(e / 2), at m = 1 / (1 + e^e). So the worst S is one whose mass is next to that
number from below or above, a subset-sum problem, and tanh(alpha eps / 2) is attained exactly when some S has that mass.
For any gains max TV <= tanh((e_(1) + e_(2)) / 4) with the two largest e. Errors are of log p as given to the optimum;
they need not keep it normalised.

Without entropy the optimum is the base conditioned on the outcomes of highest u. It does not move until the error
closes the gap to another outcome, and then it moves altogether: the limit alpha -> infinity.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, potential_scale, top_face

Source = Literal["likelihood", "reward"]
SOURCES: tuple[Source, ...] = ("likelihood", "reward")
MAX_JACOBIAN = 4096
MOST_REACH = 350.0  # exp(2 * 350) is a number; probabilities that underflow do not matter below it
FAR = 1e300  # still finite when added to a level
MET = 1e-12  # a bound this close is attained
MAX_EQUAL, MAX_ANY = 30, 16  # outcomes up to which every subset counts: 2 x 2^15 half sums, or 2^16 corners


class Response(NamedTuple):
    """How the optimum depends on one source of error.

    Attributes:
        level: With entropy v = u / w_h, else u; minus infinity off the base's support; shape [n].
        gain: d level / d source, shape [n].
        hard: Whether the optimum is the base conditioned on the highest level instead of softmax(level).
        policy: The optimum without error, shape [n].
        log_base: log p, shape [n].
        scale: Of the levels, for `sharpen.theory.core.ties`, shape [n].
    """

    level: FloatArray
    gain: FloatArray
    hard: bool
    policy: FloatArray
    log_base: FloatArray
    scale: FloatArray


class WorstCase(NamedTuple):
    """The largest change of the optimum that errors of a given size cause.

    Attributes:
        total_variation: TV(pi, pi') for ``perturbation``.
        exact: Whether no perturbation of that size does worse; otherwise ``bound`` still holds.
        bound: tanh((e_(1) + e_(2)) / 4) with entropy, which is tanh(alpha eps / 2) for equal gains; 0 or 1 without.
        perturbation: Errors of magnitude eps, shape [n]. Without entropy the change occurs for errors just beyond them
            if eps is exactly the flip radius.
    """

    total_variation: float
    exact: bool
    bound: float
    perturbation: FloatArray


def response(objective: Objective, problem: Problem, source: Source) -> Response:
    """Return how the optimum depends on errors of ``likelihood`` (log p, nats) or ``reward``.

    Raises:
        InputError: the source is neither, the reference moves, or the weights overflow.
    """
    if source not in SOURCES:
        raise InputError("source", source, ", ".join(SOURCES))
    if objective.refresh_every is not None:
        raise InputError("reference", objective.reference, "frozen: with a moving reference p forgets its error")
    if source == "reward":
        objective.require_plain("errors of the reward")
    inside = problem.support
    zero, one = np.zeros(int(inside.sum())), np.ones(int(inside.sum()))
    length = problem.length[inside]
    w_h = objective.coefficients.w_h
    scale = w_h if w_h > 0 else 1.0
    level, gain, size = np.full(problem.n, -np.inf), np.zeros(problem.n), np.zeros(problem.n)
    with np.errstate(over="ignore", invalid="ignore"):
        u = objective.potential(reward=problem.reward[inside], ref_logprob=problem.log_base[inside], length=length)
        # The potential is linear in (r, log p): its value at a unit vector of one of them is the derivative.
        given = (zero, one) if source == "likelihood" else (one, zero)
        slope = objective.potential(reward=given[0], ref_logprob=given[1], length=length)
        if objective.right_weight != 0.0:  # right answers have an exponent of their own
            slope = slope + objective.right_weight * problem.reward[inside] * objective.score(one, length)
        level[inside], gain[inside] = u / scale, slope / scale
        size[inside] = potential_scale(objective, problem.reward[inside], problem.log_base[inside], length) / scale
    if not np.all(np.isfinite(level[inside]) & np.isfinite(gain[inside])):
        raise InputError("alpha", objective.alpha, f"a number whose weights {objective.coefficients} do not overflow")
    hard = w_h == 0.0
    if hard and source == "likelihood" and not gain.any():
        # A task reward without likelihood: the face is fixed, and p decides only how the flow shares it out.
        face = top_face(level, size)
        level, gain, hard = np.where(face, problem.log_base, -np.inf), face.astype(np.float64), False
        size = own_scale(level)
    policy = _policy(level, size, hard, problem.log_base)
    return Response(level, gain, hard, policy, problem.log_base, size)


def jacobian(objective: Objective, problem: Problem, source: Source = "likelihood") -> FloatArray:
    """Return d pi*_i / d log p_j (or d r_j), shape [n, n], column j for source j.

    For p^alpha it is alpha pi_i (delta_ij - pi_j). Columns of outcomes outside the base's support are 0.

    Raises:
        InputError: as :func:`response`, there are more than 4096 outcomes, or the optimum, for want of entropy, jumps
            instead of moving.

    Example:
        >>> from sharpen.objective import preset
        >>> jacobian(preset("tempered", alpha=2), Problem([0.5, 0.5], [0, 1])).tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    if problem.n > MAX_JACOBIAN:
        raise InputError("base", f"{problem.n} outcomes", f"at most {MAX_JACOBIAN}")
    found = response(objective, problem, source)
    if found.hard:
        raise InputError("mode", objective.mode, "sampling: without entropy the optimum is constant, then jumps")
    pi = found.policy
    return (np.diag(pi) - np.outer(pi, pi)) * found.gain


def flip_radius(found: Response) -> float:
    """Return the size of errors beyond which the likeliest outcome can become another one; infinite if none can.

    It is the least of (level_top - level_j) / (|g_top| + |g_j|) over the other outcomes j; 0 if the top is tied.

    Example:
        >>> from sharpen.objective import preset
        >>> problem = Problem([0.6, 0.4], [0, 1])
        >>> round(flip_radius(response(preset("sharpening"), problem, "likelihood")), 4)  # log(0.6 / 0.4) / 2
        0.2027
    """
    gap, reach = _race(found)
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.where(reach > 0, gap / reach, np.inf)
    return float(radius.min(initial=np.inf))


def worst_case(found: Response, epsilon: float) -> WorstCase:
    """Return the largest total-variation change of the optimum under errors of magnitude at most epsilon.

    It is exact for up to 30 outcomes of equal gain, up to 16 of any gains, and without entropy; beyond that the
    perturbation is the best one that single exchanges find, and ``exact`` says whether it meets the bound to 1e-12.

    Args:
        found: From :func:`response`.
        epsilon: Largest error of log p (nats) or of the reward, finite and >= 0.

    Raises:
        InputError: epsilon is negative or not finite.

    Example:
        >>> from sharpen.objective import preset
        >>> problem = Problem([0.5, 0.5], [0, 1])
        >>> worst = worst_case(response(preset("tempered", alpha=2), problem, "likelihood"), 0.1)
        >>> round(worst.total_variation, 6), round(worst.bound, 6), worst.exact
        (0.098688, 0.099668, True)
    """
    if not 0.0 <= epsilon < np.inf:
        raise InputError("epsilon", epsilon, "a finite number >= 0")
    if found.hard:
        return _worst_jump(found, epsilon)
    inside = np.flatnonzero(found.level > -np.inf)
    with np.errstate(over="ignore"):
        reach = np.minimum(np.abs(found.gain[inside]) * epsilon, FAR)
    bound = float(np.tanh(np.sort(reach)[::-1][:2].sum() / 4.0)) if inside.size > 1 else 0.0
    if bound == 0.0:
        return WorstCase(0.0, True, 0.0, np.zeros(found.level.size))
    if reach.max() > MOST_REACH:
        members, change, exact = _far(found.level[inside], reach)
    else:
        pi = found.policy[inside]
        members, exact = _worst_set(pi, reach)
        change = _gain_of(pi, reach, members)
    signs = np.zeros(found.level.size)
    signs[inside] = np.where(members, 1.0, -1.0) * np.sign(found.gain[inside])
    return WorstCase(change, exact or bound - change <= MET, bound, epsilon * signs)


def perturbed_policy(found: Response, error: FloatArray) -> FloatArray:
    """Return the optimum with errors added to the source, shapes [..., n] to [..., n]."""
    moved = found.gain * error
    level = np.where(found.level > -np.inf, np.where(found.level > -np.inf, found.level, 0.0) + moved, -np.inf)
    return _policy(level, found.scale + np.abs(moved), found.hard, found.log_base)


def _policy(level: FloatArray, scale: FloatArray, hard: bool, log_base: FloatArray) -> FloatArray:
    if hard:
        level = np.where(top_face(level, scale), log_base, -np.inf)
    weights = np.exp(level - level.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _race(found: Response) -> tuple[FloatArray, FloatArray]:
    """Return, for every outcome of the support but the first top one, its gap to the top and the sum of their gains."""
    inside = np.flatnonzero(found.level > -np.inf)
    top = inside[int(np.argmax(found.level[inside]))]
    others = inside[inside != top]
    gain = np.abs(found.gain)
    tied = top_face(found.level, found.scale)[others]
    return np.where(tied, 0.0, found.level[top] - found.level[others]), gain[top] + gain[others]


def _worst_jump(found: Response, epsilon: float) -> WorstCase:
    """Return the worst case of an arg max: nothing moves, a tie is broken, or another outcome takes over."""
    inside = np.flatnonzero(found.level > -np.inf)
    face = top_face(found.level, found.scale)
    gain = np.abs(found.gain)
    error = np.zeros(found.level.size)
    if epsilon == 0.0 or not gain[inside].any():
        return WorstCase(0.0, True, 0.0, error)
    outside = inside[~face[inside]]
    gap = found.level[face].max() - found.level[outside]
    # To beat all of the face: each of its members comes down by its own gain, so the least mobile one decides.
    reach = epsilon * (gain[outside] + gain[face].min()) - gap
    if outside.size and reach.max() > 0.0:
        target, change = outside[int(np.argmax(reach))], 1.0
    elif face.sum() > 1:
        members = np.flatnonzero(face)
        target = members[int(np.argmin(found.policy[members]))]
        change = 1.0 - float(found.policy[target])
    else:
        return WorstCase(0.0, True, 0.0, error)
    error[inside] = -epsilon * np.sign(found.gain[inside])
    error[target] *= -1.0
    return WorstCase(change, True, change, error)


def _gain_of(pi: FloatArray, reach: FloatArray, members: NDArray[np.bool_]) -> float:
    """Return pi'(S) - pi(S), the total variation of raising S and lowering the rest by ``reach``.

    With a = pi(S), b = pi(not S) and their weights A = a + x, B = b - y after the change it is (A b - B a) / (A + B),
    that is (x b + y a) / (A + B), in which nothing cancels.
    """
    up, down = members, ~members
    a, b = pi[up].sum(), pi[down].sum()
    x, y = pi[up] @ np.expm1(reach[up]), -(pi[down] @ np.expm1(-reach[down]))
    return float((x * b + y * a) / (pi[up] @ np.exp(reach[up]) + pi[down] @ np.exp(-reach[down])))


def _worst_set(pi: FloatArray, reach: FloatArray) -> tuple[NDArray[np.bool_], bool]:
    """Return the set of outcomes to raise, and whether it is known to be the best one."""
    if np.ptp(reach) > 0.0:
        if pi.size <= MAX_ANY:
            return _best_corner(pi, reach), True
        return _climb(pi, reach, _fill(pi, float(1.0 / (1.0 + np.exp(pi @ reach))))), False
    order = np.argsort(-pi, kind="stable")
    large, small = order[:-MAX_EQUAL], order[-MAX_EQUAL:]
    # With more outcomes than can be searched, the large ones are filled in greedily and the small ones searched.
    members = np.zeros(pi.size, dtype=bool)
    members[large] = _fill(pi[large], float(1.0 / (1.0 + np.exp(reach[0]))))
    members[small] = _nearest_subset(pi[small], float(reach[0]), float(pi[members].sum()))
    return (members, True) if not large.size else (_climb(pi, reach, members), False)


def _fill(pi: FloatArray, room: float) -> NDArray[np.bool_]:
    """Return the outcomes that fit into a mass, tried from the likeliest on."""
    members = np.zeros(pi.size, dtype=bool)
    for i in np.argsort(-pi, kind="stable").tolist():
        if pi[i] <= room:
            members[i] = True
            room -= float(pi[i])
    return members


def _nearest_subset(pi: FloatArray, e: float, fixed: float) -> NDArray[np.bool_]:
    """Return the set whose mass, with ``fixed`` added, is best for f: next to 1 / (1 + exp e) in two halves' sums."""
    half = pi.size // 2
    left, right = fixed + _subset_sums(pi[:half]), _subset_sums(pi[half:])
    order = np.argsort(right, kind="stable")
    place = np.searchsorted(right[order], 1.0 / (1.0 + np.exp(e)) - left)
    best, found = -1.0, (0, 0)
    for shift in (-1, 0):
        index = np.clip(place + shift, 0, right.size - 1)
        m = np.clip(left + right[order[index]], 0.0, 1.0)
        f = m * (1.0 - m) / (m + (1.0 - m) * np.exp(-2.0 * e))  # times 1 - exp(-2e)
        i = int(np.argmax(f))
        if f[i] > best:
            best, found = float(f[i]), (i, int(order[index[i]]))
    bits = [found[0] >> i & 1 for i in range(half)] + [found[1] >> i & 1 for i in range(pi.size - half)]
    return np.array(bits, dtype=bool)


def _subset_sums(masses: FloatArray) -> FloatArray:
    """Return the sums of all subsets, shape [2^n]; bit i of the index says whether masses[i] is in."""
    sums = np.zeros(1)
    for mass in masses:
        sums = np.concatenate([sums, sums + mass])
    return sums


def _best_corner(pi: FloatArray, reach: FloatArray) -> NDArray[np.bool_]:
    """Return the set with the largest change, among all of them."""
    mass = _subset_sums(pi)
    rest = mass[::-1]  # the complement of subset i is subset 2^n - 1 - i
    gained, lost = _subset_sums(pi * np.expm1(reach)), _subset_sums(-pi * np.expm1(-reach))[::-1]
    total = _subset_sums(pi * np.exp(reach)) + _subset_sums(pi * np.exp(-reach))[::-1]
    change = (gained * rest + lost * mass) / total
    return (int(np.argmax(change)) >> np.arange(pi.size) & 1).astype(bool)


def _climb(pi: FloatArray, reach: FloatArray, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a set that no single exchange improves, from a first one."""
    rise, fall = pi * np.expm1(reach), -pi * np.expm1(-reach)
    current = _gain_of(pi, reach, members)
    for _ in range(pi.size):
        sign = np.where(members, -1.0, 1.0)
        a = pi[members].sum() + sign * pi
        x, y = rise[members].sum() + sign * rise, fall[~members].sum() - sign * fall
        change = (x * (1.0 - a) + y * a) / (1.0 + x - y)
        best = int(np.argmax(change))
        if change[best] <= current * (1.0 + 1e-14):
            break
        members[best] = ~members[best]
        current = float(change[best])
    return members


def _far(level: FloatArray, reach: FloatArray) -> tuple[NDArray[np.bool_], float, bool]:
    """Return the set to raise, the change and whether it is the best, for errors that e^reach cannot hold.

    pi(S) = sigma(log-sum of S - log-sum of the rest), before and after. All sets are tried, or of many outcomes only
    those of the lowest levels.
    """
    if level.size <= MAX_ANY:
        odds = _log_subset_sums(level) - _log_subset_sums(level)[::-1]
        after = _log_subset_sums(level + reach) - _log_subset_sums(level - reach)[::-1]
        change = _sigmoid(after) - _sigmoid(odds)
        best = int(np.argmax(change))
        return (best >> np.arange(level.size) & 1).astype(bool), float(change[best]), True
    order = np.argsort(-level, kind="stable")
    sums = [np.logaddexp.accumulate(x[order][::-1])[::-1][1:] for x in (level, level + reach)]
    rest = [np.logaddexp.accumulate(x[order])[:-1] for x in (level, level - reach)]
    change = _sigmoid(sums[1] - rest[1]) - _sigmoid(sums[0] - rest[0])
    best = int(np.argmax(change))
    members = np.zeros(level.size, dtype=bool)
    members[order[best + 1 :]] = True
    return members, float(change[best]), False


def _log_subset_sums(level: FloatArray) -> FloatArray:
    sums = np.full(1, -np.inf)
    for x in level:
        sums = np.concatenate([sums, np.logaddexp(sums, x)])
    return sums


def _sigmoid(odds: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(0.5 * odds))
