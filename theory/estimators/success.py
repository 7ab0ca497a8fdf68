"""Which function of the success rate an advantage ascends, exactly, for rewards 0 and 1.

A group has G samples of a prompt, c of them right; an advantage A(r, c) depends on a sample's own reward and on c. As
E[grad log pi | right] = grad log P and E[grad log pi | wrong] = grad log(1 - P), the mean update is f_G'(P) grad P with

    f_G'(P) = E[A(1, 1 + k)] - E[A(0, k)],    k ~ binomial(G - 1, P) right ones among the others:

a polynomial in P of degree below G. Nothing of it is taken from a paper but the advantage itself. See
docs/theory-estimators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpen.objective import InputError, functional
from sharpen.objective.counts import pass_at_k, utility_weights
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.estimators.exact import Estimate, Setting, moments

MOST_SAMPLES = 64  # of a group: beyond it the coefficients of powers of 1 - P cancel
SAME = 1e-9  # of a polynomial's largest coefficient
RIGHT_WEIGHT = 0.1  # of W-REINFORCE

Advantages = Callable[[int, int], FloatArray]  # from G and K to A(r, c), shape [2, G + 1]


@dataclass(frozen=True, eq=False)
class Ascent:
    """What an advantage ascends.

    Attributes:
        name: Of the learner.
        utility: ``identity``, ``log to order m``, ``pass@K``, ``arcsin in groups`` (what GRPO's groups of G stand for),
            found by comparing polynomials; ``its own`` if none fits.
        scale: The multiple of it that is ascended; 1 for ``its own``.
        polynomial: b_j of f_G'(P) = sum_j b_j (1 - P)^j, shape [G].
        estimate: Moments of one group's update, with the gradient of ``target`` as what it should be.
        target: The utility that the learner is named after.
    """

    name: str
    utility: str
    scale: float
    polynomial: FloatArray
    estimate: Estimate
    target: str

    def slope(self, success: float) -> float:
        """Return f_G'(P)."""
        return float(np.polynomial.polynomial.polyval(1.0 - success, self.polynomial))

    def row(self) -> dict[str, Any]:
        """Return the advantage as a row of a table."""
        names = ("bias_norm", "scale", "variance", "unbiased")
        about = {"name": self.name, "ascends": self.utility, "times": self.scale, "target": self.target}
        return about | {name: getattr(self.estimate, name) for name in names}


def ascents(given: Setting, k: int = 2) -> Rows[Ascent]:
    """Return what each advantage of rewards 0 and 1 ascends, with bias and variance of one group's update.

    The target of an advantage is the gradient of the utility that it is named after, at the policy given.

    Args:
        given: Rewards must be 0 and 1, both of them; the objective is not read.
        k: K of pass@K, at most G.

    Raises:
        InputError: it is not so, or G is 1 or above 64.
    """
    reward, G = given.problem.reward, given.groups.size
    if not np.all(np.isin(reward, (0.0, 1.0))) or np.ptp(reward) == 0.0:
        raise InputError("reward", reward.tolist(), "0 and 1, both of them")
    if not 2 <= G <= MOST_SAMPLES:
        raise InputError("group", G, f"2 to {MOST_SAMPLES}")
    if not 1 <= k <= G:
        raise InputError("k", k, f"1 to the samples of a group, {G}")
    return Rows(_ascent(given, name, k) for name in ADVANTAGES)


def _ascent(given: Setting, name: str, k: int) -> Ascent:
    of, named = ADVANTAGES[name]
    target = named if named != "pass@K" else f"pass@{k}"
    pi, reward, G = given.policy, given.problem.reward, given.groups.size
    table = of(G, k)
    right = np.round(given.groups.counts @ reward).astype(int)
    weights = table[reward.astype(int)[None, :], right[:, None]] / G
    success = float(pi @ reward)
    gradient = functional.utility(target).slope(success) * pi * (reward - success)
    estimate = moments(given, name, "sequence-sum", gradient, weights, float(np.abs(table).max()))
    polynomial = slope_polynomial(table)
    utility, scale = named_utility(polynomial)
    return Ascent(name, utility, scale, polynomial, estimate, target)


def slope_polynomial(table: FloatArray) -> FloatArray:
    """Return b_j of f_G'(P) = sum_j b_j (1 - P)^j, shape [G].

    Args:
        table: A(r, c) for own rewards r = 0, 1 and c right ones of G, shape [2, G + 1].

    Example:
        >>> slope_polynomial(np.array([[0.0, -0.5, 0.0], [0.0, 0.5, 0.0]])).tolist()  # r - mean, groups of two
        [0.5, 0.0]
    """
    G = table.shape[1] - 1
    gained = table[1, 1:] - table[0, :-1]  # by k right ones among the others
    found = np.zeros(G)
    for k in range(G):  # C(G - 1, k) P^k (1 - P)^(G - 1 - k), with P^k = (1 - (1 - P))^k
        for i in range(k + 1):
            found[G - 1 - k + i] += math.comb(G - 1, k) * math.comb(k, i) * (-1) ** i * gained[k]
    return found


def named_utility(polynomial: FloatArray) -> tuple[str, float]:
    """Return the known utility that a slope is a positive multiple of, and the multiple; see :class:`Ascent`.

    Example:
        >>> named_utility(np.array([1.0, 1.0, 0.0])), named_utility(np.array([0.0, 4.0]))
        (('log to order 2', 1.0), ('pass@2', 2.0))
    """
    G, top = len(polynomial), float(np.abs(polynomial).max())
    known = {"identity": np.eye(G)[0]}
    known |= {f"log to order {m}": (np.arange(G) < m).astype(float) for m in range(2, G + 1)}
    known |= {f"pass@{k}": k * np.eye(G)[k - 1] for k in range(2, G + 1)}
    weights = utility_weights("arcsin", G)
    known["arcsin in groups"] = slope_polynomial(np.stack([np.zeros(G + 1), np.concatenate([[0.0], weights])]))
    for name, slope in known.items():
        scale = float(polynomial @ slope) / float(slope @ slope)
        if scale > 0.0 and np.abs(polynomial - scale * slope).max() <= SAME * top * 2.0 ** min(G, 20):
            return name, scale
    return "its own", 1.0


def _mean(G: int) -> FloatArray:
    return np.arange(G + 1) / G


def _centred(G: int, _: int) -> FloatArray:
    return np.stack([-_mean(G), 1.0 - _mean(G)])


def _grpo(G: int, _: int) -> FloatArray:
    deviation = np.sqrt(_mean(G) * (1.0 - _mean(G)) * G / (G - 1))
    return _centred(G, 1) / np.where(deviation > 0.0, deviation, np.inf)


def _by_mean(empty: float) -> Advantages:
    def table(G: int, _: int) -> FloatArray:
        found = _centred(G, 1)
        found[:, 1:] /= _mean(G)[1:]
        found[0, 0] = empty
        return found

    return table


def _from_slopes(utility: str) -> Advantages:
    """Return A_i = w_i (r_i - mean of the others), w_i the estimate of f' from the others."""

    def table(G: int, k: int) -> FloatArray:
        weights = utility_weights(utility.replace("K", str(k)), G)
        c = np.arange(G + 1)
        wrong, right = np.minimum(c, G - 1), np.maximum(c - 1, 0)  # right ones among the others
        return np.stack([-weights[wrong] * wrong / (G - 1), weights[right] * (1.0 - right / (G - 1))])

    return table


def _pass_k(G: int, K: int) -> FloatArray:
    c = np.arange(G + 1)
    R = pass_at_k(c, G, K)
    without = pass_at_k(np.minimum(c, G - 1), G - 1, K - 1) if K > 1 else np.zeros(G + 1)
    sigma = np.sqrt(R * (1.0 - R))
    return np.stack([without - R, 1.0 - R]) / np.where(sigma > 0.0, sigma, np.inf)


def _signs(right: float) -> Advantages:
    return lambda G, _: np.stack([-np.ones(G + 1), np.full(G + 1, right)])


# Of each learner A(r, c), and the utility that it is named after.
ADVANTAGES: dict[str, tuple[Advantages, str]] = {
    "rloo": (_from_slopes("identity"), "identity"),
    "dr-grpo": (_centred, "identity"),
    "nsr": (_signs(0.0), "identity"),
    "w-reinforce": (_signs(RIGHT_WEIGHT), "identity"),
    "grpo": (_grpo, "arcsin"),
    "rloo, arcsin": (_from_slopes("arcsin"), "arcsin"),
    "maxrl": (_by_mean(0.0), "log"),
    "maxrl-order-g": (_by_mean(-1.0), "log"),
    "rloo, log": (_from_slopes("log"), "log"),
    "pass-k": (_pass_k, "pass@K"),
    "rloo, pass@K": (_from_slopes("pass@K"), "pass@K"),
}
