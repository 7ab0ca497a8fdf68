"""Curves of the flows on the 2-simplex: trajectories, stable manifolds of edge saddles, and nullclines.

Everything is integrated in logits theta with pi = softmax(theta), where faces are at infinity and no probability can
turn negative: d theta / dt = A for the natural gradient, pi (A - E_pi A) for the softmax gradient. The parameter of a
curve is a length, not the time, so that plateaus cost nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.core.advantage import AdvantageLine
from sharpen.theory.core.problem import FloatArray

Field = Literal["natural", "softmax"]
FIELDS: tuple[Field, ...] = ("natural", "softmax")

# Distance in log pi from the edge at which a stable manifold is started; there its distance from the edge saddle's
# ratio is exp(-margin), and it shrinks backward in time. The softmax flow is slower by the lost probability itself.
MARGIN = {"natural": 30.0, "softmax": 10.0}
ARRIVED = 1e-4  # distance in logits from the repeller at which a backward curve is joined to it
NARROWEST = 12.0  # -log of the repeller's least probability up to which the softmax flow's borders are integrated
CURVE_POINTS = 200
MOST_STEPS = 30_000  # velocity evaluations of one curve, about 3 seconds; usual ones take hundreds
STOPPED = 1e-4  # of the fastest speed on the simplex: where a trajectory is drawn no further
INSET = 2e-3  # nullclines are traced this far from the edges, where A is infinite
NULLCLINE_GRID = 241


def check_field(field: str) -> Field:
    """Return the field's name if it is one.

    Raises:
        InputError: it is neither ``natural`` nor ``softmax``.
    """
    for name in FIELDS:
        if field == name:
            return name
    raise InputError("field", field, " or ".join(FIELDS))


def log_softmax(theta: FloatArray) -> FloatArray:
    """Return log softmax over the last axis."""
    shifted = theta - theta.max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def logit_velocity(line: AdvantageLine, log_pi: FloatArray, field: Field) -> FloatArray:
    """Return d theta / dt less its mean over the outcomes, shape [..., m] as ``log_pi``."""
    pi = np.exp(log_pi)
    advantage = line.constant - line.slope * log_pi
    if field == "softmax":
        advantage = pi * (advantage - np.sum(pi * advantage, axis=-1, keepdims=True))
    return advantage - np.mean(advantage, axis=-1, keepdims=True)


def growth(line: AdvantageLine, log_pi: FloatArray, field: Field) -> FloatArray:
    """Return d log pi / dt, shape [..., m] as ``log_pi``."""
    velocity = logit_velocity(line, log_pi, field)
    return velocity - np.sum(np.exp(log_pi) * velocity, axis=-1, keepdims=True)


def stable_manifold(line: AdvantageLine, saddle: FloatArray, source: FloatArray, field: Field) -> FloatArray:
    """Return the border between two basins: from an edge saddle back in time to the interior repeller, shape [k, 3].

    Args:
        line: A of the three outcomes, its slope negative (self-sharpening with alpha > 1).
        saddle: log pi of the saddle, shape [3], minus infinity off its edge.
        source: log pi of the repeller, shape [3].
        field: Which flow.

    Raises:
        InputError: the repeller lies so close to a vertex that the softmax flow there rounds to zero, or rates differ
            so much that the curve takes too many steps.
    """
    from scipy.integrate import solve_ivp

    line = line.unit()
    if field == "softmax" and source.min() < -NARROWEST:
        raise _too_uneven(field)
    lost = int(np.argmin(saddle))
    start = saddle.copy()
    start[lost] = source.min() - MARGIN[field]
    start -= start.mean()
    target = source - source.mean()

    evaluations = itertools.count()

    def backward(_: float, theta: FloatArray) -> FloatArray:
        if next(evaluations) > MOST_STEPS:
            raise _too_uneven(field)
        velocity = logit_velocity(line, log_softmax(theta), field)
        return -velocity / max(float(np.linalg.norm(velocity)), np.finfo(float).tiny)

    class Distance:
        terminal = True  # solve_ivp's way to ask for a stop

        def __call__(self, _: float, theta: FloatArray) -> float:
            return float(np.linalg.norm(theta - target)) - ARRIVED

    reach = 10.0 * (float(np.linalg.norm(start - target)) + MARGIN[field])
    found = solve_ivp(
        backward, (0.0, reach), start, method="LSODA", rtol=1e-9, atol=1e-9, events=Distance(), dense_output=True
    )
    if found.status != 1 or found.sol is None:
        raise _too_uneven(field)
    dense = np.exp(log_softmax(found.sol(np.linspace(0.0, found.t[-1], 50 * CURVE_POINTS)).T))
    whole = np.concatenate([[np.exp(saddle)], dense, [np.exp(source)]])
    return _evenly(whole, CURVE_POINTS)


def _too_uneven(field: Field) -> InputError:
    allowed = "rewards and lengths less extreme, so that curves can be integrated; this problem's are too uneven"
    return InputError(f"field {field}", "a curve that takes too many steps", allowed)


def _evenly(points: FloatArray, count: int) -> FloatArray:
    """Return ``count`` points at equal distances along a polyline in the simplex, its ends kept."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    wanted = np.linspace(0.0, along[-1], count)
    even = np.stack([np.interp(wanted, along, column) for column in points.T], axis=1)
    even[[0, -1]] = points[[0, -1]]
    return even


def _speed(log_pi: FloatArray, velocity: FloatArray) -> float:
    """Return |d pi / dt| of one policy whose logits have this velocity; many thousands of times a curve."""
    pi = np.exp(log_pi)
    moved = pi * (velocity - np.dot(pi, velocity))
    return math.sqrt(np.dot(moved, moved))


def trajectory(line: AdvantageLine, start: FloatArray, field: Field, count: int = 60) -> FloatArray:
    """Return where the flow carries a policy, as points at equal distances on the simplex, shape [k, 3].

    The curve ends where the speed has fallen to 1e-4 of the greatest on it.

    Args:
        line: A of the three outcomes.
        start: A policy with full support, shape [3].
        field: Which flow.
        count: Points, the start included; 1 comes back if the start is at rest.

    Raises:
        InputError: rates differ so much that the curve takes too many steps.
    """
    from scipy.integrate import solve_ivp

    line = line.unit()
    log_start = np.log(start)
    scale = float(np.max(np.abs(start * growth(line, log_start, field))))
    if scale <= 1e-12 * float(np.max(np.abs(line.constant)) + np.max(np.abs(line.slope))):
        return start[None, :]
    fastest = scale

    evaluations = itertools.count()

    def forward(_: float, theta: FloatArray) -> FloatArray:
        if next(evaluations) > MOST_STEPS:
            raise _too_uneven(field)
        log_pi = log_softmax(theta)
        velocity = logit_velocity(line, log_pi, field)
        return velocity / max(_speed(log_pi, velocity), 0.1 * STOPPED * scale)

    class Speed:
        terminal = True

        def __call__(self, _: float, theta: FloatArray) -> float:
            nonlocal fastest
            log_pi = log_softmax(theta)
            speed = _speed(log_pi, logit_velocity(line, log_pi, field))
            fastest = max(fastest, speed)
            return speed - STOPPED * fastest

    found = solve_ivp(
        forward, (0.0, 4.0), log_start, method="LSODA", rtol=1e-7, atol=1e-9, events=Speed(), dense_output=True
    )
    assert found.sol is not None  # dense_output asks for it
    return np.exp(log_softmax(found.sol(np.linspace(0.0, found.t[-1], count)).T))


def nullclines(line: AdvantageLine, field: Field) -> tuple[tuple[FloatArray, ...], ...]:
    """Return, for each of the three outcomes, the curves on which its probability is momentarily at rest.

    Args:
        line: A of the three outcomes.
        field: Which flow.

    Returns:
        One tuple of polylines, shapes [k, 3], an outcome; see :func:`zero_curves`.
    """
    line = line.unit()
    noise = 1e-12 * float(np.max(np.abs(line.constant)) + np.max(np.abs(line.slope)))
    return zero_curves(lambda pi: growth(line, np.log(pi), field), NULLCLINE_GRID, noise)


def zero_curves(
    rates: Callable[[FloatArray], FloatArray], grid: int, noise: float = 1e-12
) -> tuple[tuple[FloatArray, ...], ...]:
    """Return the curves on the simplex on which each component of a field changes sign.

    They are traced in the square (s, t) with pi = (s, (1 - s) t, (1 - s)(1 - t)) on a grid of ``grid`` x ``grid``
    points that keeps 0.002 from its border, linearly between grid points.

    Args:
        rates: From policies, shape [..., 3], to the field there, shape [..., 3].
        grid: Points a side.
        noise: A field that is nowhere larger vanishes, and has no curves.

    Returns:
        One tuple of polylines, shapes [k, 3], a component.
    """
    from contourpy import contour_generator

    side = np.linspace(INSET, 1.0 - INSET, grid)
    s, t = np.meshgrid(side, side)

    def simplex(s: FloatArray, t: FloatArray) -> FloatArray:
        return np.stack([s, (1.0 - s) * t, (1.0 - s) * (1.0 - t)], axis=-1)

    values = rates(simplex(s, t))
    if np.max(np.abs(values)) <= noise:
        return ((), (), ())  # every policy is at rest
    found = []
    for i in range(3):
        lines = contour_generator(x=s, y=t, z=values[..., i]).lines(0.0)
        found.append(tuple(simplex(np.asarray(path)[:, 0], np.asarray(path)[:, 1]) for path in lines))
    return tuple(found)
