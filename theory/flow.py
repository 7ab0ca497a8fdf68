"""The gradient flows of the objective on the simplex, and where the natural-gradient flow ends.

With the pseudo-reward A (a function of the policy when there is entropy or a moving reference):

- natural gradient, the replicator equation: d pi_i / dt = pi_i (A_i - E_pi A);
- softmax (vanilla policy) gradient: d theta_i / dt = pi_i (A_i - E_pi A) for logits theta, which puts a second factor
  pi in front of the policy's velocity, so a nearly lost outcome returns at speed O(pi_i^2).

Both keep the support: a face of the simplex is invariant. See docs/theory.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.advantage import AdvantageLine, advantage_line, interior_point, top_ties
from sharpen.theory.problem import FloatArray, Problem

COLLAPSED = 1e-9  # mass outside one outcome below which the race between unequal lengths is decided
LOST = 1e3  # exp(-1000) is 0 in float64, and no entropy of 10^7 outcomes comes near 1000
LONGEST_TIME = 1e4  # in units of the slowest growth rate; growth is exponential, so 1e4 is beyond any rounding


def vector_field(objective: Objective, problem: Problem, policy: ArrayLike) -> FloatArray:
    """Return d pi / dt = pi (A - E_pi A), the replicator (natural-gradient) flow, shape [n].

    Args:
        objective: Its pseudo-reward is A. With a moving reference (``policy`` or ``refresh:K``) p is the policy.
        problem: n outcomes.
        policy: Probabilities pi, shape [n].

    Raises:
        InputError: the policy has another shape, a negative or non-finite entry, or mass where A is not finite.
    """
    pi = _policy(problem, policy)
    inside = pi > 0
    line = advantage_line(objective, problem, inside)
    field = np.zeros(problem.n)
    field[inside] = _weighted_advantage(line, pi[inside], np.log(pi[inside]))
    return field


def softmax_field(objective: Objective, problem: Problem, policy: ArrayLike) -> FloatArray:
    """Return d pi / dt under d theta / dt = grad_theta J for softmax logits theta, shape [n].

    With g = pi (A - E_pi A) it is pi (g - E_pi g). Arguments and errors are those of :func:`vector_field`.
    """
    pi = _policy(problem, policy)
    g = vector_field(objective, problem, pi)
    return pi * (g - pi @ g)


def gradient(objective: Objective, problem: Problem, logits: ArrayLike) -> FloatArray:
    """Return grad_theta J = pi (A - E_pi A) at pi = softmax(theta), shape [n].

    With a moving reference it is the gradient with p held at the policy (the pseudo-reward is a constant).

    Args:
        objective: The objective J.
        problem: n outcomes.
        logits: theta, shape [n]; minus infinity removes an outcome.

    Raises:
        InputError: the logits have another shape or are not numbers, or A is not finite on the support.
    """
    theta = np.asarray(logits, dtype=np.float64)
    if theta.shape != (problem.n,) or not np.max(theta) < np.inf or not np.max(theta) > -np.inf:
        raise InputError("logits", logits, f"{problem.n} numbers, at least one of them finite")
    inside = theta > -np.inf
    shifted = theta[inside] - theta[inside].max()
    log_pi = shifted - np.log(np.sum(np.exp(shifted)))
    out = np.zeros(problem.n)
    out[inside] = _weighted_advantage(advantage_line(objective, problem, inside), np.exp(log_pi), log_pi)
    return out


def limit(objective: Objective, problem: Problem, start: ArrayLike) -> FloatArray:
    """Return the policy in which the natural-gradient flow from ``start`` ends, probabilities of shape [n].

    With A = a - c log pi on the support of the start (see `sharpen.theory.advantage`):

    - c > 0 (entropy, or self-sharpening with alpha < 1): the one interior point, Gibbs for a frozen reference;
    - c = 0: the start conditioned on arg max a, because ratios inside a tied face are conserved;
    - c < 0 (self-sharpening with alpha > 1): log pi_i - log pi_j + (a_i - a_j)/|c| grows exponentially, so the outcome
      with the largest log pi_i + a_i/|c| takes all. Outcomes tied for it keep the (unstable) stationary ratios
      exp(-a_i/|c|). With unequal lengths the rates differ and the flow is integrated numerically.

    ``refresh:K`` is answered as ``policy``: with equal lengths both end in the same policy; with unequal ones the end
    of ``refresh:K`` can depend on K and the step size.

    Raises:
        InputError: the start is no policy (negative, not finite, or a sum that is not 1 within 1e-6), has mass where A
            is not finite, or sits on the border between two basins of the numerically integrated flow.
    """
    return np.exp(log_limit(objective, problem, start))


def log_limit(objective: Objective, problem: Problem, start: ArrayLike) -> FloatArray:
    """Return the logarithm of :func:`limit`, shape [n]: minus infinity off the end's support, and nowhere else."""
    pi = _policy(problem, start)
    if abs(pi.sum() - 1.0) > 1e-6:
        raise InputError("start", float(pi.sum()), "probabilities whose sum is 1")
    inside = pi > 0
    end = np.full(problem.n, -np.inf)
    end[inside] = _log_limit(advantage_line(objective, problem, inside), np.log(pi[inside]))
    return end


def _policy(problem: Problem, policy: ArrayLike) -> FloatArray:
    pi = np.asarray(policy, dtype=np.float64)
    if pi.shape != (problem.n,) or not np.all((pi >= 0) & (pi < np.inf)) or not np.any(pi > 0):
        raise InputError("policy", policy, f"{problem.n} finite probabilities >= 0")
    return pi


def _weighted_advantage(line: AdvantageLine, pi: FloatArray, log_pi: FloatArray) -> FloatArray:
    advantage = line.constant - line.slope * log_pi
    return pi * (advantage - pi @ advantage)


def _log_limit(line: AdvantageLine, log_start: FloatArray) -> FloatArray:
    everything = np.ones(log_start.size, dtype=bool)
    if line.sign > 0:
        return interior_point(line, everything)
    if line.sign == 0:
        return _conditioned(log_start, top_ties(line.constant))
    if np.ptp(line.slope) == 0.0:
        winners = top_ties(log_start - line.constant / line.slope)
        return interior_point(line, winners)
    return _integrated_limit(line, log_start)


def _conditioned(log_pi: FloatArray, face: NDArray[np.bool_]) -> FloatArray:
    kept = np.where(face, log_pi, -np.inf)
    kept = kept - kept.max()
    return kept - np.log(np.sum(np.exp(kept)))


def _integrated_limit(line: AdvantageLine, log_start: FloatArray) -> FloatArray:
    """Integrate d theta_i / dt = A_i, the natural gradient in logits, until one outcome holds all the mass."""
    from scipy.integrate import solve_ivp

    def log_softmax(theta: FloatArray) -> FloatArray:
        shifted = theta - theta.max()
        return shifted - np.log(np.sum(np.exp(shifted)))

    # An outcome below the floor has log pi < -LOST and an A below every average the others can have, so it is lost for
    # good; holding A there keeps the fast losers from overflowing while slow ones still race.
    floor = line.constant.min() - LOST * np.abs(line.slope).max()

    def velocity(_: float, theta: FloatArray) -> FloatArray:
        advantage = np.maximum(line.constant - line.slope * log_softmax(theta), floor)
        return advantage - advantage.max()

    class Undecided:
        terminal = True  # solve_ivp's way to ask for a stop

        def __call__(self, _: float, theta: FloatArray) -> float:
            return np.log1p(-COLLAPSED) - log_softmax(theta).max()

    time = LONGEST_TIME / np.abs(line.slope).min()
    result = solve_ivp(velocity, (0.0, time), log_start, method="LSODA", rtol=1e-8, atol=1e-8, events=Undecided())
    if result.status != 1 and log_start.size > 1:
        raise InputError("start", "a policy between two basins", "a start whose flow ends in one outcome")
    winner = int(np.argmax(result.y[:, -1]))
    return np.where(np.arange(log_start.size) == winner, 0.0, -np.inf)
