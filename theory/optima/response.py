"""How the expected reward of the optimum answers to alpha and to beta_inv, exactly.

The optimum of an objective with entropy is an exponential family in either parameter, pi_t proportional to
exp(offset + t slope), with slope the (length-normalised) log-likelihood s for alpha and the reward r for beta_inv
(`sharpen.theory.core.backend.family`). Hence

    d E[r] / d alpha = Cov(r, s),        d E[r] / d beta_inv = Var(r) >= 0:

a task reward can only help, sharpening helps while reward and likelihood correlate under the current target.

Turning points in alpha are found, and certified to be all, in `sharpen.theory.optima.turning`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.core import backend
from sharpen.theory.core.backend import Family, Parameter
from sharpen.theory.core.frames import Columns, Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import TIE_TOLERANCE
from sharpen.theory.optima import utilities
from sharpen.theory.optima.turning import MOST_DOUBLINGS, Groups, groups_of, moments_of, settled_from, sign_changes

PARAMETERS: tuple[Parameter, ...] = ("alpha", "beta_inv")


@dataclass(frozen=True, eq=False)
class Curve(Columns):
    """E[r] of the optimum on a grid of one parameter.

    Attributes:
        over: ``alpha`` or ``beta_inv``.
        grid: The parameter, shape [G].
        expected_reward: E[r], shape [G].
        derivative: dE[r] / d parameter, shape [G].
    """

    over: Parameter
    grid: FloatArray
    expected_reward: FloatArray
    derivative: FloatArray


@dataclass(frozen=True)
class TurningPoint:
    """Where dE[r]/d alpha changes its sign: a ``maximum`` or a ``minimum`` of E[r]."""

    alpha: float
    expected_reward: float
    kind: str


@dataclass(frozen=True)
class Turn:
    """When sharpening stops helping.

    Attributes:
        stops_helping: The least alpha >= 1 from which E[r] falls, None if it never does beyond 1.
        below_base: The least alpha >= 1 from which E[r] is below the base's, None if it never is.
    """

    stops_helping: float | None
    below_base: float | None


def curve(objective: Objective, problem: Problem, over: Parameter, grid: ArrayLike) -> Curve:
    """Return E[r] of the optimum and its exact derivative on a grid of alpha or beta_inv, the other one held.

    With a utility it is the optimum in which the flow from the base ends, and where that jumps E[r] does, too.

    Memory does not grow with the grid's size times n.

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
        >>> curve(Objective(), DEFAULT_PROBLEM, "alpha", [0, 1, 2]).expected_reward.round(4).tolist()
        [0.4, 0.37, 0.2893]
    """
    t = np.asarray(grid, dtype=np.float64)
    if t.ndim != 1 or not t.size or not np.all((t >= 0) & (t < np.inf)):
        raise InputError("grid", grid, "finite numbers >= 0")
    if objective.utility != "identity":
        return Curve(over, t, *utilities.curve(objective, problem, over, t))
    found = moments_of(entropic_family(objective, problem, over), t)
    return Curve(over, t, found.reward, found.covariance)


def turning_points(objective: Objective, problem: Problem, low: float, high: float) -> Rows[TurningPoint]:
    """Return every turning point of E[r] in alpha strictly between ``low`` and ``high``, ascending.

    Each is located to 1e-9 (relatively above alpha = 1). None is missed but pairs closer to each other, or points
    closer to an end of the range, than that: everywhere else the sign of the derivative is certified by the bound in
    `sharpen.theory.optima.turning`. The certificate is as good as the covariances in float64. Scores that tie
    (`sharpen.theory.core.ties`) are counted as equal where all their groups have rewards in order, and the range ends
    where E[r] is within 1e-16 of its limit, relative to the rewards' range.

    The cost is a few hundred evaluations of E[r], and none if the reward rises or falls with the likelihood.

    Args:
        objective: In mode ``sampling`` with a frozen reference; its alpha is not read.
        problem: n outcomes.
        low: Start of the range, >= 0.
        high: End of the range, finite and above ``low``.

    Raises:
        InputError: as :func:`curve`, or the derivative is so close to 0 on a range that its sign is not decided.

    Example:
        >>> problem = Problem([0.45, 0.3, 0.15, 0.1], [0, 1, 0, 0])
        >>> [(round(point.alpha, 4), point.kind) for point in turning_points(Objective(), problem, 0, 8)]
        [(1.1216, 'maximum')]
    """
    if not 0.0 <= low < high < math.inf:
        raise InputError("alpha range", [low, high], "0 <= low < high, both finite")
    return _turning_points(groups_of(entropic_family(objective, problem, "alpha")), low, high)


def stops_helping(problem: Problem, objective: Objective | None = None) -> Turn:
    """Return the alpha >= 1 from which E[r] falls, and the one from which it is below the base's E_p[r].

    Both are searched for up to infinity: beyond some alpha the two likeliest groups of different reward decide the sign
    of the derivative, or E[r] is its limit to rounding, and that alpha is computed.

    Args:
        problem: n outcomes.
        objective: In mode ``sampling`` with a frozen reference; p^alpha if not given. Its alpha is not read.

    Raises:
        InputError: as :func:`turning_points`.

    Example:
        >>> stops_helping(Problem([0.5, 0.3, 0.2], [1, 0, 0]))
        Turn(stops_helping=None, below_base=None)
        >>> stops_helping(Problem([0.5, 0.3, 0.2], [0, 1, 0]))
        Turn(stops_helping=1.0, below_base=1.0)
    """
    groups = groups_of(entropic_family(objective or Objective(), problem, "alpha"))
    if groups.constant:
        return Turn(None, None)
    last = settled_from(groups, also_decided=True)
    points = _turning_points(groups, 1.0, last)
    ends = np.array([1.0, *(point.alpha for point in points), last])
    # Between turning points E[r] is monotone; the middle of the first piece says how it leaves alpha = 1.
    falling = float(moments_of(groups.members, np.array([ends[:2].mean()])).covariance[0]) < 0.0
    first = next((point.alpha for point in points if point.kind == "maximum"), None)
    base_reward = problem.expected_reward(problem.base)
    return Turn(1.0 if falling else first, _below(groups, ends, base_reward, falling))


def entropic_family(objective: Objective, problem: Problem, over: Parameter) -> Family:
    """Return the optimum as an exponential family in alpha or beta_inv, the other one held.

    Raises:
        InputError: the objective has no entropy or a moving reference, or the parameter is neither.
    """
    if over not in PARAMETERS:
        raise InputError("over", over, ", ".join(PARAMETERS))
    if objective.coefficients.w_h == 0.0:
        raise InputError("mode", objective.mode, "sampling: without entropy the optimum is constant, then jumps")
    if objective.utility != "identity":
        raise InputError("utility", objective.utility, "identity: another one's optima are no exponential family")
    if objective.refresh_every is not None:
        raise InputError(
            "reference", objective.reference, "frozen: the end of training with a moving one is no p^alpha"
        )
    return backend.family(objective, over, problem.reward, problem.log_base, problem.length)


def _turning_points(groups: Groups, low: float, high: float) -> Rows[TurningPoint]:
    changes = sign_changes(groups, low, high)
    rewards = [_reward(groups, alpha) for alpha, _ in changes]
    return Rows(
        TurningPoint(alpha, reward, "maximum" if sign > 0 else "minimum")
        for (alpha, sign), reward in zip(changes, rewards, strict=True)
    )


def _reward(groups: Groups, alpha: float) -> float:
    return float(moments_of(groups.members, np.array([alpha])).reward[0])


def _below(groups: Groups, ends: FloatArray, base_reward: float, falling: bool) -> float | None:
    """Return the first alpha >= 1 from which E[r] is below the base's, given the ends of its monotone pieces."""
    from scipy.optimize import brentq

    def excess(alpha: float) -> float:
        return _reward(groups, alpha) - base_reward

    rounding = TIE_TOLERANCE * float(np.abs(groups.members.reward).max())
    if falling and excess(1.0) <= rounding:
        return 1.0
    last = float(ends[-1])
    if groups.members.reward[-1] < base_reward - rounding:  # the end of the curve is below: so is some alpha
        for _ in range(MOST_DOUBLINGS):
            if excess(last) < 0.0:
                break
            last *= 2.0
    ends = np.append(ends[:-1], last)
    for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if excess(high) < -rounding:
            crossing = brentq(excess, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps)
            assert isinstance(crossing, float)  # full_output would add a report
            return crossing
    return None
