"""The policy p exp(t f) / Z at a given KL to the base, by Newton's method with one exponential an outcome.

With psi(t) = log sum p exp(t f) the KL and its derivative are moments of one pass over the outcomes,

    KL(t) = t E_t[f] - psi(t),    d KL / dt = t Var_t(f) >= 0.

The root of the KL is linear in t at first, t sqrt(Var(f) / 2), so Newton's method is run on it, within a bracket. That
difference has lost digits where the KL is small. There, and for the last steps, it is the sum that cancels nothing of
`sharpen.theory.core.change`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.core import change as changes
from sharpen.theory.core.problem import FloatArray

MET = 2e-13  # relative distance of a KL from the one asked for, at which it is met
LEAST_KL = 1e-290  # smaller budgets underflow and count as 0
LEAST_OF_MOMENTS = 1e-8  # KL below which the difference of moments has no digits to search by
NOISE = 4e-15  # rounding of that difference, nats
WIDEN = 16.0  # most that a step multiplies t by before something lies above
MOST_STEPS = 1000


class Tilt(NamedTuple):
    """A policy of the ray.

    Attributes:
        parameter: t.
        change: log(pi_t / p), shape [n]; 0 outside the base's support.
        kl: KL(pi_t || p), nats.
    """

    parameter: float
    change: FloatArray
    kl: float


def at_kl(log_base: FloatArray, f: FloatArray, kl: float, start: float) -> Tilt:
    """Return the policy proportional to p exp(t f), t >= 0, whose KL to p is ``kl``.

    Args:
        log_base: log p, shape [n], minus infinity outside the support.
        f: Finite, shape [n], 0 outside the support, not constant on it.
        kl: In nats, >= 0 and below that of the limit t to infinity.
        start: A guess of t, > 0; sqrt(2 kl / Var_p(f)) is near for small KLs.

    Raises:
        InputError: no finite t has this KL, to rounding.

    Example:
        >>> kl = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
        >>> found = at_kl(np.log([0.5, 0.5]), np.array([1.0, 0.0]), kl, 1.0)
        >>> bool(np.isclose(found.parameter, np.log(3.0))), found.change.round(4).tolist()
        (True, [0.4055, -0.6931])
    """
    if kl <= LEAST_KL:
        return Tilt(0.0, np.zeros(log_base.size), 0.0)
    t = start
    if kl > LEAST_OF_MOMENTS:
        t = _newton(lambda t: _moments(log_base, f, t), kl, t, max(MET, NOISE / kl))
    found = _exactly(log_base, f, t)
    if abs(found.kl - kl) <= MET * kl:
        return found
    t = _newton(lambda t: (_exactly(log_base, f, t).kl, _moments(log_base, f, t)[1]), kl, t, MET)
    return _exactly(log_base, f, t)


def _exactly(log_base: FloatArray, f: FloatArray, t: float) -> Tilt:
    change = changes.tilted(log_base, t * f)
    return Tilt(t, change, changes.kl_to_base(log_base, change))


def _newton(evaluate: Callable[[float], tuple[float, float]], kl: float, t: float, met: float) -> float:
    """Return t at which the KL is ``kl`` to within ``met`` of it, or to what t resolves, from the KL and Var(f) at t.

    A step that leaves the bracket, or has no slope, is replaced by a doubling while nothing lies above, then by halving
    the bracket's logarithm.
    """
    low, high = 0.0, math.inf
    for _ in range(MOST_STEPS):
        here, variance = evaluate(t)
        if abs(here - kl) <= met * kl:
            return t
        if here < kl:
            low = t
        else:
            high = t
        if high < math.inf and high - low <= 4.0 * np.finfo(float).eps * high:
            return t
        root = math.sqrt(here) if here > 0.0 else 0.0
        slope = 0.5 * t * variance
        following = t + (math.sqrt(kl) - root) * root / slope if slope > 0.0 and root > 0.0 else math.nan
        if high == math.inf and following > WIDEN * t:  # far beyond the root the moments have no digits
            following = WIDEN * t
        if not low < following < high:
            following = 2.0 * t if high == math.inf else math.sqrt(low) * math.sqrt(high) if low > 0.0 else 0.5 * high
        if following == math.inf:
            break
        t = following
    raise InputError("kl", kl, "a budget that some finite parameter meets to rounding")


def _moments(log_base: FloatArray, f: FloatArray, t: float) -> tuple[float, float]:
    """Return the KL, as a difference that may cancel, and Var(f) at t; NaN where t f overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [
            _block(log_base[at : at + changes.BLOCK], f[at : at + changes.BLOCK], t)
            for at in range(0, f.size, changes.BLOCK)
        ]
        top, mass, mean, spread = np.array(parts).T
        highest = float(top.max())
        weight = np.exp(top - highest) * mass
        total = float(weight.sum())
        average = float(weight @ mean) / total
        variance = float(weight @ (spread + (mean - average) ** 2)) / total
        return t * average - (highest + math.log(total)), variance


def _block(log_base: FloatArray, f: FloatArray, t: float) -> tuple[float, float, float, float]:
    """Return a block's highest exponent, its mass over that of it, and mean and variance of f; a mass of 0 if none."""
    x = t * f
    x += log_base
    top = float(x.max())
    if top == -math.inf:
        return top, 0.0, 0.0, 0.0
    x -= top
    np.exp(x, out=x)
    mass = float(x.sum())
    mean = float(x @ f) / mass
    away = f - mean
    away *= away
    return top, mass, mean, float(x @ away) / mass
