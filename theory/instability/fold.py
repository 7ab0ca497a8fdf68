"""GRPO with a KL penalty on one prompt: where the interior optimum exists, and where only certainty is left.

GRPO divides each group's advantages by the deviation of its rewards. With large groups its gradient is that of
2 arcsin sqrt(P), P the success rate (`sharpen.objective.functional.utility`), so with the penalty beta KL(pi || p) it
ascends J(P) = 2 arcsin sqrt(P) - beta kl(P, P_0) along the tilts of the base, P_0 being its success rate. In log-odds

    x - x_0 = 2 cosh(x / 2) / beta                                (THEORY T18)

has two solutions, a maximum and a minimum, if x_0 < 2 arcsinh(beta) - 2 sqrt(1 + beta^-2), and none beyond; P = 1 is a
maximum always. With groups of G samples the slope of what is ascended is, over all groups with a share m of right ones,

    f'_G(P) = E[sqrt(m (1 - m))] / (P (1 - P)),                    m G ~ binomial(G, P),

which ends at sqrt(G - 1) for P = 0 and 1 and is constant for G = 2 and 3. Certainty then becomes an optimum whose odds
are those of the base times exp(sqrt(G - 1) / beta), and the fold a jump to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.optima import utilities
from sharpen.theory.optima.utilities import CERTAINTY, MAXIMUM, MINIMUM

MOST_SAMPLES = 4096  # a group, whose binomial is summed
GRID = 4001  # log-odds at which the signs of a finite group's equation are taken
BOTH, ONLY_CERTAINTY, ONE = "two optima", "only certainty", "one optimum"


@dataclass(frozen=True)
class Optimum:
    """A stationary point of GRPO with a KL penalty on one prompt.

    Attributes:
        kind: ``maximum``, ``minimum`` or ``certainty``.
        success: P there.
        log_odds: log(P / (1 - P)), infinite at certainty.
        value: J there; nothing for finite groups, where it is only known up to a constant.
    """

    kind: str
    success: float
    log_odds: float
    value: float | None


@dataclass(frozen=True)
class Fold:
    """Every optimum of GRPO with a KL penalty on one prompt.

    Attributes:
        optima: Every stationary point, by rising success rate.
        state: ``two optima``, ``only certainty`` or ``one optimum`` (finite groups).
        least_beta: The weight below which no interior optimum exists for this base, with large groups.
        equal_beta: The weight above which the interior optimum is worth more than certainty, with large groups.
    """

    optima: Rows[Optimum]
    state: str
    least_beta: float
    equal_beta: float


def fold(base_success: float, beta: float, group: int | None = None) -> Fold:
    """Return every optimum of GRPO with a KL penalty on a prompt.

    Args:
        base_success: P_0, the base's success rate, strictly between 0 and 1.
        beta: Weight of the KL, > 0.
        group: Samples in a group; None for the limit of large groups.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> found = fold(0.05, beta=2.0)
        >>> found.state, [round(each.success, 3) for each in found.optima]
        ('two optima', [0.167, 0.997, 1.0])
        >>> fold(0.05, beta=0.5).state, round(found.least_beta, 3), round(found.equal_beta, 3)
        ('only certainty', 0.571, 0.724)
    """
    start = _log_odds(base_success)
    if group is not None:
        _check_group(group)
    if not 0.0 < beta < math.inf:
        raise InputError("beta", beta, "a finite number > 0")
    least, equal = least_beta(base_success), equal_beta(base_success)
    if group is not None:
        optima = _of_a_group(start, beta, group)
        return Fold(Rows(optima), BOTH if len(optima) > 1 else ONE, least, equal)
    found = [
        Optimum(MAXIMUM if kind == utilities.FOLD else kind, utilities.sigmoid(x), x, value(x, start, beta))
        for x, kind in utilities.roots("arcsin", start, 1.0 / beta)
    ]
    certain = Optimum(CERTAINTY, 1.0, math.inf, math.pi + beta * math.log(base_success))
    return Fold(Rows([*found, certain]), BOTH if found else ONLY_CERTAINTY, least, equal)


def border(beta: float) -> float:
    """Return the base's log-odds at the fold, 2 arcsinh(beta) - 2 sqrt(1 + beta^-2), which rise with beta."""
    return 2.0 * math.asinh(beta) - 2.0 * math.hypot(1.0, 1.0 / beta)


def success_at_the_fold(beta: float) -> float:
    """Return the success rate at which the two solutions meet, (1 + beta / sqrt(1 + beta^2)) / 2."""
    return 0.5 * (1.0 + beta / math.hypot(1.0, beta))


def least_beta(base_success: float) -> float:
    """Return the KL weight at which the fold passes a base.

    Example:
        >>> round(least_beta(0.5), 4)
        1.5089
    """
    from scipy.optimize import brentq

    start = _log_odds(base_success)
    found: float = brentq(lambda t: border(math.exp(t)) - start, -300.0, 300.0, xtol=1e-13)  # pyright: ignore
    return math.exp(found)


def equal_beta(base_success: float) -> float:
    """Return the KL weight at which the interior optimum and certainty are worth the same."""
    from scipy.optimize import brentq

    start, least = _log_odds(base_success), least_beta(base_success)

    def lead(t: float) -> float:
        beta = least * math.exp(t)
        x = utilities.roots("arcsin", start, 1.0 / beta)[0][0]
        return value(x, start, beta) - math.pi + beta * float(np.logaddexp(0.0, -start))

    high = 1.0
    while lead(high) < 0.0:
        high += 1.0
    return least * math.exp(brentq(lead, 1e-9, high, xtol=1e-12))  # pyright: ignore


def value(x: float, start: float, beta: float) -> float:
    """Return J at log-odds x: 2 arcsin sqrt(P) - beta kl(P, P_0)."""
    p = utilities.sigmoid(x)
    kl = p * (x - start) + float(np.logaddexp(0.0, start) - np.logaddexp(0.0, x))
    return 2.0 * math.atan(math.exp(0.5 * min(x, 1400.0))) - beta * kl


def group_slope(log_odds: FloatArray | float, group: int) -> FloatArray:
    """Return f'_G(P) of GRPO with groups of G samples at log-odds, shape as given.

    Example:
        >>> group_slope([-9.0, 0.0, 9.0], 2).round(12).tolist()  # in pairs it is REINFORCE
        [1.0, 1.0, 1.0]
    """
    from scipy.special import gammaln, log_expit

    _check_group(group)
    x = np.asarray(log_odds, dtype=np.float64)
    c = np.arange(1, group)
    chance = gammaln(group + 1) - gammaln(c + 1) - gammaln(group - c + 1)
    # Divided by P (1 - P): one right and one wrong sample less in the exponents.
    logs = chance + (c - 1) * log_expit(x)[..., None] + (group - c - 1) * log_expit(-x)[..., None]
    return np.exp(logs) @ (np.sqrt(c * (group - c)) / group)


def cusp(group: int) -> tuple[float, float]:
    """Return the largest KL weight at which groups of G samples have two optima, and the base's success rate there.

    It is the steepest rise of f'_G in the log-odds. Groups of 2 and 3 have none: 0, and nothing for the rate.

    Example:
        >>> beta, rate = cusp(16)
        >>> round(beta, 4), f"{rate:.1e}"
        (0.6389, '9.4e-02')
    """
    if group <= 3:
        group_slope(0.0, group)
        return 0.0, math.nan
    x = np.linspace(0.0, 40.0, 20 * GRID)
    slope = group_slope(x, group)
    steep = np.gradient(slope, x)
    i = int(np.argmax(steep))
    return float(steep[i]), utilities.sigmoid(float(x[i] - slope[i] / steep[i]))


def _of_a_group(start: float, beta: float, group: int) -> list[Optimum]:
    """Return the stationary points of finite groups, from the signs of the equation between its two ends."""
    from scipy.optimize import brentq

    def excess(x: float) -> float:
        return float(group_slope(x, group)) / beta - (x - start)

    high = start + math.sqrt(group - 1) / beta + 1.0
    # Between large odds on either side the slope is flat: the grid is fine where it bends.
    middle = np.linspace(-40.0, 40.0, GRID)
    grid = np.unique(np.concatenate([[start, high], middle[(middle > start) & (middle < high)]]))
    signs = group_slope(grid, group) / beta - (grid - start)
    places = np.flatnonzero(np.sign(signs[1:]) != np.sign(signs[:-1]))
    roots = [float(brentq(excess, grid[i], grid[i + 1], xtol=1e-12)) for i in places]  # pyright: ignore
    return [Optimum(MINIMUM if i % 2 else MAXIMUM, utilities.sigmoid(x), x, None) for i, x in enumerate(roots)]


def _check_group(group: int) -> None:
    if not 2 <= group <= MOST_SAMPLES:
        raise InputError("group", group, f"a whole number from 2 to {MOST_SAMPLES}")


def _log_odds(p: float) -> float:
    if not 0.0 < p < 1.0:
        raise InputError("base-success", p, "a number between 0 and 1")
    return math.log(p) - math.log1p(-p)
