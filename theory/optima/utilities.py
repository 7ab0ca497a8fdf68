"""Optima of a utility of the success rate, J(pi) = f(P) - beta KL and more, P = E_pi[r] with r in {0, 1}: all of them.

At a stationary point the reward weighs w_r f'(P), so pi is the policy pi_0 of the objective without its reward term,
tilted by r: only the odds of being right move. With x = log(P / (1 - P)), x_0 that of pi_0 and w = w_r / w_h
(beta_inv for a KL penalty), all of it is one equation in one number,

    x - x_0 = w f'(P),      J along the tilts has the slope  f'(P) - (x - x_0) / w  in P, times w_r,

(THEORY T18). For f' that falls in P the left side rises and the right one falls: one solution. For arcsin, which is
what GRPO ascends with large groups, f' = 2 cosh(x / 2) is convex in x: two solutions, or one, or none.

- The lower one is a maximum, the upper one a minimum of J along the tilts.
- P = 1 is a maximum at every w: f' grows as exp(x / 2), and what the KL asks for only as x.
- The two meet where w sinh(x / 2) = 1, the fold. Beyond x_0 = 2 arcsinh(1 / w) - 2 sqrt(1 + w^2) only certainty is
  left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective, functional
from sharpen.theory.core import backend
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem

MAXIMUM, MINIMUM, FOLD, CERTAINTY = "maximum", "minimum", "fold", "certainty"
_STEPS = 200  # halvings: more than any interval of doubles needs
_HUGE = 700.0  # exp of more is no double


@dataclass(frozen=True, eq=False)
class Solution:
    """A stationary point of J with the support of the untilted policy, or certainty.

    Attributes:
        success: P there.
        log_odds: log(P / (1 - P)), infinite at certainty.
        tilt: w f'(P), what is added to the logits of right answers.
        kind: ``maximum`` or ``minimum`` of J along the tilts, ``fold`` where the two meet, or ``certainty``: P = 1,
            where J has a maximum that no equation shows, because its slope is infinite there.
        log_probabilities: log pi, shape [n].
    """

    success: float
    log_odds: float
    tilt: float
    kind: str
    log_probabilities: FloatArray


def solutions(objective: Objective, problem: Problem) -> Rows[Solution]:
    """Return every solution of the equation for the success rate, and certainty where it is a maximum, by rising P.

    Args:
        objective: In mode ``sampling`` with a frozen reference; its utility may be the identity.
        problem: n outcomes with rewards 0 and 1, right ones and wrong ones in the base's support.

    Raises:
        InputError: the objective or the problem is another.

    Example:
        >>> spec = Objective(beta_inv=0.5, utility="arcsin")
        >>> [(each.kind, round(each.success, 3)) for each in solutions(spec, Problem([0.95, 0.05], [0, 1]))]
        [('maximum', 0.167), ('minimum', 0.997), ('certainty', 1.0)]
        >>> spec = Objective(beta_inv=2, utility="arcsin")
        >>> [each.kind for each in solutions(spec, Problem([0.95, 0.05], [0, 1]))]
        ['certainty']
    """
    level = untilted(objective, problem)
    right = problem.reward == 1.0
    start, w = log_odds(level, right), objective.coefficients.w_r / objective.coefficients.w_h
    found = []
    for x, kind in roots(objective.utility, start, w):
        tilt = x - start
        policy = backend.gibbs(level + tilt * right)
        found.append(Solution(float(sigmoid(x)), x, tilt, kind, policy))
    if objective.utility == "arcsin" and w > 0.0:
        found.append(Solution(1.0, math.inf, math.inf, CERTAINTY, backend.condition(level, right)))
    return Rows(found)


def roots(name: str, start: float, w: float) -> list[tuple[float, str]]:
    """Return every solution x of x - start = w f'(P(x)) and its kind, ascending.

    Args:
        name: Of the utility f.
        start: Log-odds of the untilted policy, finite.
        w: Weight of the utility against the entropy, >= 0.

    Example:
        >>> [(round(x, 4), kind) for x, kind in roots("identity", -1.0, 3.0)]
        [(2.0, 'maximum')]
    """
    if w == 0.0:
        return [(start, MAXIMUM)]
    slope = slope_at(name)

    def excess(x: float) -> float:
        return w * slope(x) - (x - start)

    if name != "arcsin":
        high = max(start, 0.0) + w * slope(0.0)  # beyond 0 the slope is below what it is at 0
        return [(_crossing(excess, start, high), MAXIMUM)]
    lowest = 2.0 * math.asinh(1.0 / w)
    least = excess(lowest)
    if abs(least) <= 1e-13 * max(1.0, abs(start), abs(lowest)):
        return [(lowest, FOLD)]
    if least > 0.0:
        return []
    high = lowest + 1.0
    while excess(high) < 0.0:
        high += high - lowest
    return [(_crossing(excess, start, lowest), MAXIMUM), (_crossing(excess, high, lowest), MINIMUM)]


@np.errstate(over="ignore")  # a slope that is no double lies on the right side all the same
def solved(name: str, starts: FloatArray, w: float) -> tuple[FloatArray, FloatArray]:
    """Return the solutions of many equations x - start = w f'(P(x)), shape [k] twice: :func:`roots` side by side.

    Args:
        name: Of the utility f.
        starts: Log-odds of untilted policies, finite, shape [k].
        w: Weight of the utility against the entropy, >= 0.

    Returns:
        The lower solution, a maximum of J, NaN where there is none; and the upper one, a minimum, NaN where there is
        only one. At the fold, where the two meet, both are the same number.
    """
    none = np.full_like(starts, np.nan)
    if w == 0.0:
        return starts, none
    slope = slope_at(name, np)

    def excess(x: FloatArray | float, start: FloatArray) -> FloatArray:
        return w * slope(x) - (x - start)

    if name != "arcsin":
        high = np.maximum(starts, 0.0) + w * slope(0.0)  # beyond 0 the slope is below what it is at 0
        return _crossings(lambda x: excess(x, starts), starts, high), none
    lowest = 2.0 * math.asinh(1.0 / w)
    least = excess(lowest, starts)
    fold = np.abs(least) <= 1e-13 * np.maximum(np.maximum(1.0, np.abs(starts)), abs(lowest))
    lower = np.where(fold, lowest, none)
    upper = lower.copy()
    two = (least < 0.0) & ~fold
    start, bottom = starts[two], np.full(int(two.sum()), lowest)
    high = bottom + 1.0
    while np.any(short := excess(high, start) < 0.0):
        high = np.where(short, 2.0 * high - lowest, high)
    lower[two] = _crossings(lambda x: excess(x, start), start, bottom)
    upper[two] = _crossings(lambda x: excess(x, start), high, bottom)
    return lower, upper


def slope_at(name: str, on: Any = math) -> Callable[[Any], Any]:
    """Return f'(P) of a utility as a function of the log-odds of P, where P itself may round to 0 or 1.

    Args:
        name: Of the utility.
        on: ``math`` for numbers one by one, which is ten times as fast there, ``numpy`` for arrays.
    """
    least = min if on is math else np.minimum
    if name == "log":
        return lambda x: 1.0 + on.exp(least(-x, _HUGE))
    if name == "arcsin":
        return lambda x: 2.0 * on.cosh(least(abs(x) / 2.0, _HUGE))
    k = int(name.removeprefix("pass@")) if name != "identity" else 1
    return lambda x: k * on.exp(-(k - 1) * np.logaddexp(0.0, x))


def bend_at(name: str, x: Any, on: Any = math) -> Any:
    """Return f''(P) P (1 - P), the derivative of f'(P) in the log-odds x; ``on`` as in :func:`slope_at`."""
    if name == "log":
        return -on.exp((min if on is math else np.minimum)(-x, _HUGE))
    if name == "arcsin":
        return on.sinh(x / 2.0)
    k = int(name.removeprefix("pass@")) if name != "identity" else 1
    return -(k - 1) * sigmoid(x, on) * slope_at(name, on)(x)


def log_limit(objective: Objective, problem: Problem) -> FloatArray:
    """Return where the natural-gradient flow from the base ends, as log-probabilities, shape [n].

    The flow moves two numbers, the exponent on the base and the tilt t of the reward: dt/ds = w_r f'(P) - w_h t. If the
    base is the untilted policy (alpha = 1) P rises to the first solution, or to certainty where there is none.
    Otherwise which of two maxima is reached is decided by following the flow.

    Raises:
        InputError: as :func:`solutions`, or the flow passes so near the minimum that rounding decides.
    """
    found = solutions(objective, problem)
    ends = [each for each in found if each.kind != MINIMUM]
    w = objective.coefficients
    if len(ends) == 1 or (w.w_p == w.w_h and not objective.right_weight):
        return ends[0].log_probabilities
    barrier = next((each.log_odds for each in found if each.kind == MINIMUM), math.inf)
    return ends[_followed(objective, problem, barrier)].log_probabilities


def curve(objective: Objective, problem: Problem, over: str, grid: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return E[r] where the flow from the base ends, and its derivative, on a grid of alpha or beta_inv, shapes [G].

    From x - x_0 = w f'(P): dx (1 - w f''(P) P (1 - P)) = dx_0 + f'(P) dw. At certainty the derivative is 0.

    Raises:
        InputError: as :func:`log_limit`; beta_inv = 0 is answered as the untilted policy.
    """
    found = [_response(objective.model_copy(update={over: float(t)}), problem, over) for t in grid]
    rewards, derivatives = (np.array(column) for column in zip(*found, strict=True))
    return rewards, derivatives


def _response(objective: Objective, problem: Problem, over: str) -> tuple[float, float]:
    level, right = untilted(objective, problem), problem.reward == 1.0
    w = objective.coefficients
    law = backend.gibbs(level) if w.w_r == 0.0 else log_limit(objective, problem)
    x, weight = log_odds(law, right), w.w_r / w.w_h
    if x == math.inf:
        return 1.0, 0.0
    if over == "beta_inv":
        drive = slope_at(objective.utility)(x)
    else:
        drive = _log_odds_slope(objective, problem, backend.gibbs(level), right)
    p = float(sigmoid(x))
    return p, p * (1.0 - p) * drive / (1.0 - weight * bend_at(objective.utility, x))


def _log_odds_slope(objective: Objective, problem: Problem, law: FloatArray, right: NDArray[np.bool_]) -> float:
    """Return d x_0 / d alpha: the mean score of right answers less that of wrong ones, each in its own part."""
    inside = problem.support
    score = np.zeros(problem.n)
    if objective.normalization != "none":
        score[inside] = functional.score(problem.log_base[inside], problem.length[inside], objective.length_exponent)
    parts = [np.exp(law[mask] - np.logaddexp.reduce(law[mask])) @ score[mask] for mask in (right, ~right)]
    return float((parts[0] if objective.alpha_right is None else 0.0) - parts[1])


def untilted(objective: Objective, problem: Problem) -> FloatArray:
    """Return the level u / w_h of the objective without its reward term, shape [n], minus infinity off the support.

    Raises:
        InputError: as :func:`solutions`.
    """
    if objective.coefficients.w_h == 0.0:
        raise InputError("mode", objective.mode, "sampling: the equation for the success rate weighs it against a KL")
    if objective.refresh_every is not None:
        raise InputError("reference", objective.reference, "frozen with a utility or an exponent of right answers")
    inside = problem.support
    rewards = problem.reward[inside]
    if not np.all((rewards == 0.0) | (rewards == 1.0)) or len(np.unique(rewards)) < 2:
        raise InputError("reward", rewards.tolist(), "0 and 1, both of them, where the base has probability: a utility "
                         "is one of the share of right answers")  # fmt: skip
    w, level = objective.coefficients, np.full(problem.n, -np.inf)
    given = (rewards, problem.log_base[inside], problem.length[inside], objective.length_exponent)
    with np.errstate(over="ignore", invalid="ignore"):
        level[inside] = functional.potential(w._replace(w_r=0.0), *given, right=objective.right_weight) / w.w_h
    if not np.all(np.isfinite(level[inside])):
        raise InputError("alpha", objective.alpha, f"a number whose weights {w} do not overflow")
    return level


def log_odds(level: FloatArray, right: NDArray[np.bool_]) -> float:
    """Return log(P / (1 - P)) of the policy with these logits, right ones being those in the mask."""
    return float(np.logaddexp.reduce(level[right]) - np.logaddexp.reduce(level[~right]))


def _crossing(excess: Callable[[float], float], above: float, below: float) -> float:
    """Return where the excess crosses zero between a point where it is >= 0 and one where it is <= 0."""
    for _ in range(_STEPS):
        middle = 0.5 * (above + below)
        if middle in (above, below):
            break
        above, below = (middle, below) if excess(middle) > 0.0 else (above, middle)
    return 0.5 * (above + below)


def _crossings(excess: Callable[[FloatArray], FloatArray], above: FloatArray, below: FloatArray) -> FloatArray:
    """Return where excesses cross zero, as :func:`_crossing` of each, shape [k]."""
    for _ in range(_STEPS):
        middle = 0.5 * (above + below)
        apart = (middle != above) & (middle != below)
        if not apart.any():
            break
        positive = excess(middle) > 0.0
        above, below = np.where(apart & positive, middle, above), np.where(apart & ~positive, middle, below)
    return 0.5 * (above + below)


def _followed(objective: Objective, problem: Problem, barrier: float) -> int:
    """Follow the flow from the base; return 0 if it stays below the minimum for good, 1 if it passes it for good."""
    from scipy.integrate import solve_ivp

    w, slope = objective.coefficients, slope_at(objective.utility)
    level, right = untilted(objective, problem), problem.reward == 1.0
    ahead = np.where(problem.support, level - problem.log_base, 0.0)  # what time adds to the base's logits
    base = problem.log_base

    def odds(s: float, tilt: float) -> float:
        return log_odds(base - math.expm1(-w.w_h * s) * ahead, right) + tilt

    def speed(s: float, y: FloatArray) -> list[float]:
        return [w.w_r * slope(min(odds(s, y[0]), 2.0 * _HUGE / 10.0)) - w.w_h * y[0]]

    def far(s: float, y: FloatArray) -> float:
        return odds(s, y[0]) - max(barrier, 0.0) - 20.0

    far.terminal = True  # type: ignore[attr-defined]
    end = solve_ivp(speed, (0.0, 60.0 / w.w_h), [0.0], "LSODA", events=far, rtol=1e-10, atol=1e-12)
    if end.status == 1:
        return 1
    last = odds(float(end.t[-1]), float(end.y[0, -1]))
    if abs(last - barrier) < 1e-6:
        raise InputError("base", "odds at the barrier", "ones from which the flow does not end at the minimum")
    return int(last > barrier)


def sigmoid(x: Any, on: Any = math) -> Any:
    """Return the success rate of log-odds x; ``on`` as in :func:`slope_at`."""
    return 0.5 * (1.0 + on.tanh(0.5 * x))
