"""When two levels count as equal: the one rule of optimum, fixed points, limits, modes, best-of-N, votes, toy, figures.

A level is what outcomes are compared by: a potential, a log-probability, a reward, a score. It is a sum of terms, and
its scale is the sum of their magnitudes, so that its rounding error is a few 1e-16 of the scale. **Two levels tie if
they differ by at most 1e-12 of the larger of their two scales.** What lies between 1e-16 and 1e-12 allows for numbers
that were themselves computed.

- The scale of a log-probability, or of a score made of one, is its own magnitude: an outcome with log p = -10^6 does
  not blur the race between others.
- The scale of a reward is the largest magnitude of any reward, because rewards have no zero of their own: 0 and 1e-13
  beside 1 tie.

Ties need not be transitive, so groups have a leader: the highest level takes all that tie with it, the highest of the
rest takes its own, and so on. The first group is arg max.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from sharpen.objective import Coefficients, Objective, functional
from sharpen.theory.core.problem import FloatArray

Array = Any  # as in sharpen.objective.functional

TIE_TOLERANCE = 1e-12


def own_scale(level: Array) -> Array:
    """Return the scale of levels that are one term, ``|level|``, shape [..., n]; 0 for minus infinity."""
    xp = array_namespace(level)
    return xp.where(level > -xp.inf, xp.abs(level), xp.zeros_like(level))


def reward_scale(reward: Array) -> Array:
    """Return the scale of rewards, the largest of their magnitudes for all, shape [..., n]."""
    xp = array_namespace(reward)
    return xp.zeros_like(reward) + xp.max(xp.abs(reward), axis=-1, keepdims=True)


def potential_scale(objective: Objective, reward: Array, log_base: Array, length: Array | None = None) -> Array:
    """Return the scale of the potential u, shape [n]: w_r max |r| + |w_p - w_h| |s| + w_h |log p|."""
    w = objective.coefficients
    sizes = Coefficients(w.w_r, abs(w.w_p - w.w_h) + w.w_h, w.w_h)
    right = abs(objective.right_weight)
    found = functional.potential(
        sizes, reward_scale(reward), own_scale(log_base), length, objective.length_exponent, right=right
    )
    xp = array_namespace(found)
    return xp.minimum(found, xp.full_like(found, xp.finfo(found.dtype).max))  # a finite potential's may overflow


def top_face(level: Array, scale: Array) -> Array:
    """Return the mask of the levels tied for the highest, shape [..., n]; of equal highest ones the first leads.

    NumPy and JAX arrays pass through the same lines.

    Args:
        level: Shape [..., n], minus infinity for outcomes that cannot be.
        scale: Finite, shape [..., n] or [n].
    """
    xp = array_namespace(level)
    scale = xp.broadcast_to(scale, level.shape)
    lead = xp.expand_dims(xp.argmax(level, axis=-1), axis=-1)
    slack = xp.maximum(scale, xp.take_along_axis(scale, lead, axis=-1))
    return level >= xp.max(level, axis=-1, keepdims=True) - TIE_TOLERANCE * slack


def tie_groups(level: FloatArray, scale: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of levels group by group, the highest first, and where in them each group starts.

    Args:
        level: Finite, shape [m].
        scale: Shape [m].

    Example:
        >>> order, starts = tie_groups(np.array([1.0, 3.0, 1.0 + 1e-15]), np.ones(3))
        >>> order.tolist(), starts.tolist()
        ([1, 2, 0], [0, 1])
    """
    order = np.argsort(-level, kind="stable")
    high, size = level[order], scale[order]
    # No level ties across a gap that neither the slack of those above nor of those below bridges.
    reach_down = np.minimum.accumulate(high - TIE_TOLERANCE * size)
    reach_up = np.maximum.accumulate((high + TIE_TOLERANCE * size)[::-1])[::-1]
    gaps = (high[1:] < reach_down[:-1]) & (reach_up[1:] < high[:-1])
    runs = np.concatenate([[0], np.flatnonzero(gaps) + 1])
    ends = np.append(runs[1:], order.size)
    lead = np.repeat(runs, ends - runs)
    one_group = np.logical_and.reduceat(_tied(high, size, lead), runs)
    if one_group.all():
        return order, runs
    starts = []
    for start, end, whole in zip(runs.tolist(), ends.tolist(), one_group.tolist(), strict=True):
        starts.append(start)
        if whole:
            continue
        rest = np.arange(start, end)
        grouped = []
        while rest.size:
            tied = _tied(high[rest], size[rest], 0)
            grouped.append(rest[tied])
            rest = rest[~tied]
        order[start:end] = order[np.concatenate(grouped)]
        starts += (start + np.cumsum([group.size for group in grouped[:-1]], dtype=np.intp)).tolist()
    return order, np.array(starts, dtype=np.intp)


def ties(level: FloatArray, scale: FloatArray) -> list[NDArray[np.intp]]:
    """Return the indices of tied levels, ascending in each group, the highest group first.

    Example:
        >>> [group.tolist() for group in ties(np.array([0.0, 1.0, 0.0]), np.ones(3))]
        [[1], [0, 2]]
    """
    order, starts = tie_groups(level, scale)
    return [np.sort(group) for group in np.split(order, starts[1:])]


def leaders(level: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the levels with each group's put at its leader's, shape [m], so that ties are exact afterwards.

    Example:
        >>> leaders(np.array([1.0, 1.0 + 1e-15, 2.0]), np.ones(3)).tolist()
        [1.000000000000001, 1.000000000000001, 2.0]
    """
    order, starts = tie_groups(level, scale)
    out = np.empty_like(level)
    out[order] = np.repeat(level[order[starts]], np.diff(np.append(starts, order.size)))
    return out


def _tied(level: FloatArray, scale: FloatArray, lead: NDArray[np.intp] | int) -> NDArray[np.bool_]:
    """Return which levels tie with those at the places ``lead``, which are not lower."""
    return level >= level[lead] - TIE_TOLERANCE * np.maximum(scale, scale[lead])
