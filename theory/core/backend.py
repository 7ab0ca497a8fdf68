"""Optimum and response as pure functions over arrays: NumPy and JAX pass through the same lines.

Arrays are floating vectors of shape [n], one entry per outcome; probabilities appear as logarithms in nats, so that
nothing is lost where exp(log p) underflows. With entropy the optimum is exp(level) / Z with level = u / w_h; without,
it is the base conditioned on the outcomes of highest u (docs/objective.md). JAX functions may be traced: no branch
looks at a value. XLA fuses passes itself and is given whole vectors, NumPy blocks of them. In float64
(`jax.enable_x64`) the two libraries agree to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_jax_array

from sharpen.objective import Coefficients, Objective, functional
from sharpen.theory.core.change import BLOCK, kl_terms, kl_to_base
from sharpen.theory.core.ties import potential_scale, top_face

Array = Any  # as in sharpen.objective.functional

Parameter = Literal["alpha", "beta_inv"]

SHARED = 16  # points of an even grid for one exponential: rounding grows with their number
DEEPEST = 600.0  # nats below the likeliest outcome at which masses still have all digits, and room to shrink


class Summary(NamedTuple):
    """Numbers of one policy: J, E[r], H and KL(pi || p), the last two in nats."""

    value: Array
    expected_reward: Array
    entropy: Array
    kl_to_base: Array


class Family(NamedTuple):
    """The exponential family pi_t proportional to exp(offset + t slope), shapes [n], and the reward of its outcomes."""

    offset: Array
    slope: Array
    reward: Array


class Moments(NamedTuple):
    """Of a family at each t, shapes [G].

    Attributes:
        log_partition: log sum_i exp(offset_i + t slope_i).
        reward: E[r].
        slope: E[slope], the derivative of ``log_partition``.
        covariance: Cov(r, slope), the derivative of ``reward``.
        variance: Var(slope).
    """

    log_partition: Array
    reward: Array
    slope: Array
    covariance: Array
    variance: Array


def level(objective: Objective, reward: Array, log_base: Array, length: Array | None = None) -> Array:
    """Return u / w_h with entropy and u without, minus infinity outside the base's support, shape [n]."""
    xp = array_namespace(log_base)
    inside = log_base > -xp.inf
    u = inner_level(objective, reward, _finite(xp, inside, log_base), length)
    return xp.where(inside, u, xp.full_like(u, -xp.inf))


def inner_level(objective: Objective, reward: Array, log_base: Array, length: Array | None = None) -> Array:
    """Return :func:`level` of outcomes that are all inside the base's support, shape [n]."""
    u = objective.potential(reward=reward, ref_logprob=log_base, length=length)
    w_h = objective.coefficients.w_h
    return u if w_h in (0.0, 1.0) else u / w_h


def gibbs(level: Array) -> Array:
    """Return level - log sum exp(level), the log-probabilities proportional to exp(level), shape [..., n]."""
    xp = array_namespace(level)
    shifted = level - xp.max(level, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def log_optimum(objective: Objective, reward: Array, log_base: Array, length: Array | None = None) -> Array:
    """Return log pi* of an objective with a frozen reference, shape [n], minus infinity off its support.

    Args:
        objective: Its ``reference`` is not read.
        reward: Task rewards r.
        log_base: log p, minus infinity outside the base's support.
        length: Lengths, needed if the objective normalises by them.

    Example:
        >>> import numpy as np
        >>> np.exp(log_optimum(Objective(alpha=2.0), np.zeros(2), np.log([0.75, 0.25]))).round(9).tolist()
        [0.9, 0.1]
    """
    found = level(objective, reward, log_base, length)
    if objective.coefficients.w_h != 0.0:
        return gibbs(found)
    return condition(log_base, top_face(found, potential_scale(objective, reward, log_base, length)))


def condition(log_policy: Array, face: Array) -> Array:
    """Return the log-probabilities of a policy conditioned on the outcomes in a mask, shape [n]."""
    xp = array_namespace(log_policy)
    return gibbs(xp.where(face, log_policy, xp.full_like(log_policy, -xp.inf)))


def summarize(
    objective: Objective,
    log_policy: Array,
    reward: Array,
    log_base: Array,
    length: Array | None = None,
    reference: Array | None = None,
) -> Summary:
    """Return J, E[r], entropy and KL to the base of a policy whose support lies in the base's.

    Args:
        objective: The objective J.
        log_policy: log pi, shape [n].
        reward: Task rewards r.
        log_base: log p.
        length: Lengths, needed if the objective normalises by them.
        reference: log-probabilities of p in J if they are not ``log_base`` (a reference that moves).
    """
    if objective.utility != "identity":  # not a sum over outcomes
        return _summarize(objective, log_policy, reward, log_base, length, reference)
    parts = []
    for at in blocks(log_policy):
        given = (None if x is None else x[at] for x in (length, reference))
        parts.append(_summarize(objective, log_policy[at], reward[at], log_base[at], *given))
    return Summary(*(sum(numbers[1:], start=numbers[0]) for numbers in zip(*parts, strict=True)))


def _summarize(
    objective: Objective, log_policy: Array, reward: Array, log_base: Array, length: Array | None, moved: Array | None
) -> Summary:
    xp = array_namespace(log_policy)
    inside = log_policy > -xp.inf
    log_pi = _finite(xp, inside, log_policy)
    pi = xp.exp(log_policy)
    change = xp.where(inside, log_pi - _finite(xp, inside, log_base), xp.full_like(log_pi, -xp.inf))
    reference = log_base if moved is None else moved
    return Summary(
        objective.value(policy_logprob=log_policy, reward=reward, ref_logprob=reference, length=length),
        xp.sum(pi * reward),
        -xp.sum(pi * log_pi),
        xp.sum(kl_terms(log_base, change)) if is_jax_array(change) else kl_to_base(log_base, change),
    )


def family(
    objective: Objective, over: Parameter, reward: Array, log_base: Array, length: Array | None = None
) -> Family:
    """Return the optimum as a family in one parameter of an objective with entropy, the other one held.

    The potential is linear in its weights, and (w_r, w_p, w_h) / w_h are affine in alpha and in beta_inv. So level is
    offset + t slope, with the slope the potential of the derivatives of the weights: the score s for alpha, r for
    beta_inv. ``beta_inv = 0`` is the limit of small beta_inv.
    """
    xp = array_namespace(log_base)
    inside = log_base > -xp.inf
    log_p = _finite(xp, inside, log_base)
    at = [objective.model_copy(update={over: t}) for t in (0.0, 1.0)]
    zero, one = map(_weights_per_entropy, at)
    rate = Coefficients(*(b - a for a, b in zip(zero, one, strict=True)))
    right = [each.right_weight / each.coefficients.w_h for each in at]
    exponent = objective.length_exponent
    offset = functional.potential(zero, reward, log_p, length, exponent, right=right[0])
    slope = xp.zeros_like(offset)
    if any(rate) or right[1] != right[0]:
        slope = slope + functional.potential(rate, reward, log_p, length, exponent, right=right[1] - right[0])
    return Family(xp.where(inside, offset, xp.full_like(offset, -xp.inf)), _finite(xp, inside, slope), reward)


def _weights_per_entropy(objective: Objective) -> Coefficients:
    w = objective.coefficients
    return Coefficients(*(x / w.w_h for x in w))


def moments(members: Family, grid: Array) -> Moments:
    """Return the moments of a family at every t of a grid, shapes [G], in memory that does not grow with G times n.

    Deviations are taken from the likeliest outcome, which leaves the covariance its relative accuracy also when nearly
    all mass is there, and blocks of outcomes are merged by their means.
    """
    xp = array_namespace(members.slope)
    # Whole grids at once for few outcomes, one point at a time for many.
    width = max(1, BLOCK // members.slope.shape[0])
    if width == 1 and not is_jax_array(grid) and _even(grid):
        return _merged([_block_of_even_grid(members, at, grid) for at in blocks(members.slope)])
    chunks = [grid[start : start + width] for start in range(0, grid.shape[0], width)]
    found = [_merged([_block(members, at, t) for at in blocks(members.slope)]) for t in chunks]
    return Moments(*(xp.concat(parts) for parts in zip(*found, strict=True)))


class _Block(NamedTuple):
    """Sums over a block of outcomes at each t, shapes [g]; means are given less the block's likeliest outcome's."""

    top: Array
    mass: Array
    top_reward: Array
    top_slope: Array
    reward: Array
    slope: Array
    covariance: Array
    variance: Array


def _block(members: Family, at: slice, grid: Array) -> _Block:
    xp = array_namespace(members.slope)
    slope, reward = members.slope[at], members.reward[at]
    exponent = members.offset[at] + grid[:, None] * slope
    best = xp.argmax(exponent, axis=1)
    top = xp.max(exponent, axis=1)
    mass = xp.exp(exponent - _finite(xp, top > -xp.inf, top)[:, None])
    total = xp.sum(mass, axis=1)
    share = xp.where(total > 0, total, xp.ones_like(total))  # a block without any base probability
    r_top, s_top = xp.take(reward, best, axis=0), xp.take(slope, best, axis=0)
    r, s = reward - r_top[:, None], slope - s_top[:, None]
    r_mean, s_mean = xp.sum(mass * r, axis=1) / share, xp.sum(mass * s, axis=1) / share
    away = s - s_mean[:, None]
    weighted = mass * away
    covariance = xp.sum(weighted * (r - r_mean[:, None]), axis=1)
    return _Block(top, total, r_top, s_top, r_mean, s_mean, covariance, xp.sum(weighted * away, axis=1))


def _even(grid: Array) -> bool:
    """Return whether a NumPy grid has equal steps, to rounding, and enough of them to share their exponentials."""
    if grid.size < 3:
        return False
    step = (grid[-1] - grid[0]) / (grid.size - 1)
    return bool(abs(grid - (grid[0] + step * np.arange(grid.size))).max() <= 4e-16 * abs(grid).max())


def _block_of_even_grid(members: Family, at: slice, grid: Array) -> _Block:
    """Return :func:`_block` by two exponentials an outcome for each ``SHARED`` points, in NumPy.

    From one point of the grid to the next every mass is multiplied by exp(step (slope - c)). Where masses so small that
    they have no digits could grow back within the points that share, each point has its own exponential.
    """
    slope, reward, offset = members.slope[at], members.reward[at], members.offset[at]
    inside = offset > -np.inf
    step = float(grid[-1] - grid[0]) / (grid.size - 1)
    low, high = float(slope.min()), float(slope.max())
    with np.errstate(over="ignore", invalid="ignore"):
        reach = SHARED * abs(step) * (high - low)
        depth = float(np.ptp(offset[inside])) + float(abs(grid).max()) * (high - low) if inside.any() else np.inf
    if not depth + reach < DEEPEST:
        alone = [_block(members, at, grid[[i]]) for i in range(grid.size)]
        return _Block(*(np.concatenate(numbers) for numbers in zip(*alone, strict=True)))
    centre = high if step > 0 else low
    ratio = np.exp(step * (slope - centre))
    mass, rows, best = np.empty(0), [], -1
    top = 0.0
    r = s = mass
    for i, t in enumerate(grid.tolist()):
        if i % SHARED == 0:
            mass = offset + t * slope
            top = float(mass.max())
            mass -= top
            np.exp(mass, out=mass)
        else:
            mass *= ratio
            largest = float(mass.max())
            mass *= 1.0 / largest
            top += step * centre + float(np.log(largest))
        likeliest = int(mass.argmax())
        if likeliest != best:
            best = likeliest
            r, s = reward - reward[best], slope - slope[best]
        total = float(mass.sum())
        r_mean, s_mean = float(mass @ r) / total, float(mass @ s) / total
        away = s - s_mean
        weighted = mass * away
        covariance, variance = float(weighted @ (r - r_mean)), float(weighted @ away)
        rows.append((top, total, reward[best], slope[best], r_mean, s_mean, covariance, variance))
    return _Block(*np.array(rows).T)


def _merged(blocks: list[_Block]) -> Moments:
    """Return the moments of all blocks together, by deviations from the likeliest outcome (Chan et al. 1983)."""
    xp = array_namespace(blocks[0].top)
    all_ = _Block(*(xp.stack(numbers) for numbers in zip(*blocks, strict=True)))  # [blocks, g]
    top = xp.max(all_.top, axis=0)
    scale = xp.exp(all_.top - top)
    mass = scale * all_.mass
    total = xp.sum(mass, axis=0)
    chosen = xp.argmax(all_.top, axis=0)[None, :]

    def pick(numbers: Array) -> Array:
        return xp.take_along_axis(numbers, chosen, axis=0)

    r_origin, s_origin = pick(all_.top_reward), pick(all_.top_slope)
    r = (all_.top_reward - r_origin) + all_.reward
    s = (all_.top_slope - s_origin) + all_.slope
    r_mean, s_mean = xp.sum(mass * r, axis=0) / total, xp.sum(mass * s, axis=0) / total
    covariance = xp.sum(scale * all_.covariance + mass * (r - r_mean) * (s - s_mean), axis=0) / total
    variance = xp.sum(scale * all_.variance + mass * (s - s_mean) ** 2, axis=0) / total
    return Moments(top + xp.log(total), r_origin[0] + r_mean, s_origin[0] + s_mean, covariance, variance)


def blocks(x: Array) -> Iterator[slice]:
    """Return slices of an array's first axis, short ones for NumPy and one for JAX."""
    n = x.shape[0]
    step = n if is_jax_array(x) else BLOCK
    return (slice(start, start + step) for start in range(0, n, step))


def _finite(xp: Any, inside: Array, x: Array) -> Array:
    """Return x where inside, 0 elsewhere."""
    return xp.where(inside, x, xp.zeros_like(x))
