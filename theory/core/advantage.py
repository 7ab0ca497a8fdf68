"""The pseudo-reward of a finite problem as a line in log pi, and the points where it is constant.

On n outcomes every objective drives its flow by A_i = a_i - c_i log pi_i. With a frozen reference a = u and c = w_h.
With the reference tied to the policy (p = pi, self-sharpening) a = w_r r and c_i = -(w_p - w_h) / |x_i|^w, because the
KL pair log p - log pi cancels. The sign of c, common to all outcomes since |x|^w > 0, decides everything that follows.

``reference = refresh:K`` has the stationary points, and the signs, of ``policy``: with equal lengths one period of
duration T with p fixed multiplies every difference of log pi_i + a_i / (w_p - w_h) by
1 + (w_p - w_h)(1 - exp(-w_h T)) / w_h (1 + w_p T without entropy), which is above 1 exactly if w_p > w_h, for every T.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, potential_scale

NEWTON_STEPS = 100
LARGE = 1e100


class AdvantageLine(NamedTuple):
    """A_i = constant_i - slope_i log pi_i on some outcomes, shapes [m]; ``scale`` is the constants' (see ties)."""

    constant: FloatArray
    slope: FloatArray
    scale: FloatArray

    def level(self, log_pi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log pi + a / |c| and its scale, shapes [..., m]: who has most of it wins where slopes are negative."""
        return log_pi - self.constant / self.slope, own_scale(log_pi) + np.abs(self.scale / self.slope)

    def unit(self) -> AdvantageLine:
        """Return the line over a constant if its numbers are so large or small that their squares are none.

        Time alone is measured in other units then: trajectories, borders and nullclines stay what they are.
        """
        size = max(float(np.max(np.abs(self.constant))), float(np.max(np.abs(self.slope))))
        if size == 0.0 or 1.0 / LARGE <= size <= LARGE:
            return self
        return AdvantageLine(self.constant / size, self.slope / size, self.scale / size)

    @property
    def sign(self) -> int:
        """The slopes' common sign: 1 attracts to the interior, -1 repels from it, 0 is linear in pi."""
        return int(np.sign(self.slope[0]))


def advantage_line(
    objective: Objective, problem: Problem, inside: NDArray[np.bool_], success: float | None = None
) -> AdvantageLine:
    """Return the line of the outcomes in the mask ``inside``, shape [n].

    With a utility of the success rate it is the line at that success rate, which moves with the policy.

    Raises:
        InputError: a mask outside the base's support when A reads log p, weights that overflow, or slopes without a
            common sign (lengths so extreme that the likelihood term rounds away).
    """
    count = int(inside.sum())
    zero, minus_one = np.zeros(count), -np.ones(count)
    frozen = objective.refresh_every is None
    if not frozen and objective.alpha_right is not None:
        raise InputError("reference", objective.reference, "frozen with an exponent of right answers")
    length = problem.length[inside]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        constant = objective.pseudo_reward(
            reward=problem.reward[inside],
            ref_logprob=problem.log_base[inside] if frozen else zero,
            policy_logprob=zero,
            length=length,
            success=success,
        )
        log_p = problem.log_base[inside] if frozen else zero
        scale = potential_scale(objective, problem.reward[inside], log_p, length)
        # The pseudo-reward is affine in (log p, log pi): with reward and log p at 0 only the slope is left.
        slope = objective.pseudo_reward(
            reward=zero,
            ref_logprob=zero if frozen else minus_one,
            policy_logprob=minus_one,
            length=length,
            success=success,
        )
    if not np.all(np.isfinite(constant) & np.isfinite(slope)):
        if not np.all(problem.support[inside]):
            raise InputError("policy", "mass where the base has none", "a policy whose support lies in the base's")
        raise InputError("alpha", objective.alpha, f"a number whose weights {objective.coefficients} do not overflow")
    if np.unique(np.sign(slope)).size > 1:
        raise InputError(
            "length", "so unequal that likelihood terms round to 0", "lengths |x| whose |x|^w are of similar size"
        )
    return AdvantageLine(constant, slope, scale)


def interior_point(line: AdvantageLine, members: NDArray[np.bool_]) -> FloatArray:
    """Return the log-probabilities with A constant on each given support, minus infinity outside, shape [..., m].

    They are log pi_i = (a_i - lambda) / c_i with lambda such that they sum to one: the Gibbs distribution
    exp(u / w_h) / Z for a frozen reference.

    Args:
        line: a and c, shapes [m], with c of one sign and not 0.
        members: Masks of the supports, shape [..., m], none empty.
    """
    sign = line.sign
    rate = sign / line.slope
    # With y = sign lambda and b = sign a: sum_i exp((b_i - y) rate_i) = 1. The logarithm of the sum is convex and falls
    # in y, and is >= 0 at y = max b, so Newton's iterates rise to the root. With equal slopes one step is exact.
    level = np.where(members, sign * line.constant, -np.inf)
    y = np.max(level, axis=-1, keepdims=True)
    gap = level - y
    if np.all(rate == rate[0]):
        gap *= rate[0]
        gap -= np.log(np.sum(np.exp(gap), axis=-1, keepdims=True))
        return gap
    shift = np.zeros_like(y)
    for _ in range(NEWTON_STEPS):
        exponent = (gap - shift) * rate
        top = np.max(exponent, axis=-1, keepdims=True)
        weight = np.exp(exponent - top)
        total = np.sum(weight, axis=-1, keepdims=True)
        step = (top + np.log(total)) / (np.sum(weight * rate, axis=-1, keepdims=True) / total)
        shift = shift + step
        if np.all(np.abs(step) <= 4 * np.finfo(float).eps * np.maximum(np.abs(shift), 1.0 / rate.max())):
            break
    exponent = (gap - shift) * rate
    top = np.max(exponent, axis=-1, keepdims=True)
    return exponent - top - np.log(np.sum(np.exp(exponent - top), axis=-1, keepdims=True))
