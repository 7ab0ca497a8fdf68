"""The gradient flows of the objective on the simplex, and where the natural-gradient flow ends.

With the pseudo-reward A (a function of the policy when there is entropy or a moving reference):

- natural gradient, the replicator equation: d pi_i / dt = pi_i (A_i - E_pi A);
- softmax (vanilla policy) gradient: d theta_i / dt = pi_i (A_i - E_pi A) for logits theta, which puts a second factor
  pi in front of the policy's velocity, so a nearly lost outcome returns at speed O(pi_i^2).

Both keep the support: a face of the simplex is invariant. See docs/theory.md and docs/theory-optimum.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.core.advantage import AdvantageLine, advantage_line, interior_point
from sharpen.theory.core.backend import condition
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import leaders, own_scale, top_face

COLLAPSED = 1e-9  # mass outside one outcome below which the race between unequal lengths is decided
LOST = 1e3  # exp(-1000) is 0 in float64, and no entropy of 10^7 outcomes comes near 1000
DECIDED = 1e-6  # lead in nats (and in A) that the errors of the integration cannot turn
HANDICAP = 1e-8  # in logits, beyond the errors of the integration
LONGEST_CURVE = 5e3  # in logits
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
    line = advantage_line(objective, problem, inside, problem.expected_reward(pi))
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
    pi = np.exp(log_pi)
    line = advantage_line(objective, problem, inside, float(pi @ problem.reward[inside]))
    out[inside] = _weighted_advantage(line, pi, log_pi)
    return out


def limit(objective: Objective, problem: Problem, start: ArrayLike, *, log_start: bool = False) -> FloatArray:
    """Return the policy in which the natural-gradient flow from ``start`` ends, probabilities of shape [n].

    With A = a - c log pi on the support of the start (see `sharpen.theory.core.advantage`):

    - c > 0 (entropy, or self-sharpening with alpha < 1): the one interior point, Gibbs for a frozen reference;
    - c = 0: the start conditioned on arg max a, because ratios inside a tied face are conserved;
    - c < 0 (self-sharpening with alpha > 1): log pi_i - log pi_j + (a_i - a_j)/|c| grows exponentially, so the outcome
      with the largest log pi_i + a_i/|c| takes all. Outcomes tied for it keep the (unstable) stationary ratios
      exp(-a_i/|c|). With unequal lengths the rates differ and the flow is integrated numerically.

    ``refresh:K`` is answered as ``policy``: with equal lengths both end in the same policy; with unequal ones the end
    of ``refresh:K`` can depend on K and the step size.

    Args:
        objective: The objective.
        problem: n outcomes.
        start: The start's probabilities, shape [n]. For the array ``problem.base`` itself ``problem.log_base`` is read,
            so that outcomes whose probability underflows are not lost.
        log_start: Whether ``start`` holds log-probabilities in nats.

    Raises:
        InputError: the start is no policy (negative, not finite, or a sum that is not 1 within 1e-6), has mass where A
            is not finite, or sits on the border between two basins of the numerically integrated flow.
    """
    return np.exp(log_limit(objective, problem, start, log_start=log_start))


def log_limit(objective: Objective, problem: Problem, start: ArrayLike, *, log_start: bool = False) -> FloatArray:
    """Return the logarithm of :func:`limit`, shape [n]: minus infinity off the end's support, and nowhere else."""
    log_pi = _log_policy(problem, start, log_start)
    inside = log_pi > -np.inf
    line = advantage_line(objective, problem, inside)
    end = np.full(problem.n, -np.inf)
    if line.sign == 0:
        end[inside] = condition(log_pi[inside], top_face(line.constant, line.scale))
    else:
        end[inside] = _log_limit(line, log_pi[inside])
    return end


def softmax_limit(objective: Objective, problem: Problem, start: ArrayLike, *, log_start: bool = False) -> FloatArray:
    """Return the policy in which the softmax-gradient flow from ``start`` ends, probabilities of shape [n].

    With A = a - c log pi as in :func:`limit`:

    - c > 0: the same interior point. With equal c the flow ascends E[a] + c H, otherwise the concave
      sum_i pi_i (a_i + c_i - c_i log pi_i).
    - c = 0: all of the start's outcomes that are likeliest among arg max a, in equal shares. For y_i = exp(-theta_i)
      and d tau = dt / sum_j exp(theta_j) the flow is d y_i / d tau = E[a] - a_i, and it conserves sum_i log y_i. So
      differences of y inside the face are conserved, the y of lost outcomes grow without bound, the others must fall
      for the sum, and the least one, the likeliest outcome's, is the first to reach 0. Natural gradients conserve
      ratios instead, and keep all of the face. Without an outcome to lose nothing moves.
    - c < 0: integrated in logits until one outcome is the likeliest and has the largest A. With equal c that is final:
      g = pi (A - E A) is then largest for this outcome, so both leads grow. An end that a handicap of 1e-8 in the
      winner's logit would change is not decided.

    Args:
        objective: The objective; ``refresh:K`` is answered as ``policy``.
        problem: n outcomes.
        start: As in :func:`limit`.
        log_start: Whether ``start`` holds log-probabilities in nats.

    Raises:
        InputError: as :func:`limit`, or the flow passes so close to a saddle that its end is not decided.

    Example:
        >>> from sharpen.objective import preset
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> limit(preset("task-reward"), DEFAULT_PROBLEM, DEFAULT_PROBLEM.base).round(3).tolist()
        [0.0, 0.676, 0.0, 0.324, 0.0]
        >>> softmax_limit(preset("task-reward"), DEFAULT_PROBLEM, DEFAULT_PROBLEM.base).tolist()
        [0.0, 1.0, 0.0, 0.0, 0.0]
    """
    return np.exp(log_softmax_limit(objective, problem, start, log_start=log_start))


def log_softmax_limit(
    objective: Objective, problem: Problem, start: ArrayLike, *, log_start: bool = False
) -> FloatArray:
    """Return the logarithm of :func:`softmax_limit`, shape [n]: minus infinity off the end's support, nowhere else."""
    log_pi = _log_policy(problem, start, log_start)
    inside = log_pi > -np.inf
    line = advantage_line(objective, problem, inside)
    found = log_pi[inside]
    if line.sign > 0:
        found = interior_point(line, np.ones(found.size, dtype=bool))
    elif line.sign == 0:
        face = top_face(line.constant, line.scale)
        if not face.all():
            found = np.where(face, found, -np.inf)
            likeliest = top_face(found, own_scale(found))
            found = np.where(likeliest, -np.log(likeliest.sum()), -np.inf)
    else:
        found = _integrated_softmax_limit(line, found)
    end = np.full(problem.n, -np.inf)
    end[inside] = found
    return end


def _log_policy(problem: Problem, start: ArrayLike, log_start: bool) -> FloatArray:
    """Return the start's log-probabilities, shape [n]."""
    if start is problem.base:
        return problem.log_base
    if log_start:
        log_pi = np.asarray(start, dtype=np.float64)
        if log_pi.shape != (problem.n,) or not -np.inf < np.max(log_pi) < np.inf:
            raise InputError("start", start, f"{problem.n} log-probabilities, at least one of them finite")
        total = float(np.sum(np.exp(np.minimum(log_pi, 1.0))))  # no overflow: above 0 it is no policy anyway
    else:
        pi = _policy(problem, start)
        total = float(pi.sum())
        log_pi = np.log(pi, where=pi > 0, out=np.full(problem.n, -np.inf))
    if abs(total - 1.0) > 1e-6:
        raise InputError("start", total, "probabilities whose sum is 1")
    return log_pi


def _policy(problem: Problem, policy: ArrayLike) -> FloatArray:
    pi = np.asarray(policy, dtype=np.float64)
    if pi.shape != (problem.n,) or not np.all((pi >= 0) & (pi < np.inf)) or not np.any(pi > 0):
        raise InputError("policy", policy, f"{problem.n} finite probabilities >= 0")
    return pi


def _weighted_advantage(line: AdvantageLine, pi: FloatArray, log_pi: FloatArray) -> FloatArray:
    advantage = line.constant - line.slope * log_pi
    return pi * (advantage - pi @ advantage)


def _log_limit(line: AdvantageLine, log_start: FloatArray) -> FloatArray:
    if line.sign > 0:
        return interior_point(line, np.ones(log_start.size, dtype=bool))
    if np.ptp(line.slope) == 0.0:
        return interior_point(line, top_face(*line.level(log_start)))
    return _integrated_limit(line, log_start)


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


def _integrated_softmax_limit(line: AdvantageLine, log_start: FloatArray) -> FloatArray:
    """Integrate d theta_i / dt = pi_i (A_i - E A) for negative slopes until the winner is certain.

    Outcomes that start equal stay equal, so they are one class with a count: rounding cannot break the symmetry. The
    curve is parametrised by its length in logits, so that plateaus cost nothing.
    """
    from scipy.integrate import solve_ivp

    scales = line.scale, own_scale(line.slope), own_scale(log_start)
    levels = line.constant, line.slope, log_start
    key = np.stack([leaders(level, scale) for level, scale in zip(levels, scales, strict=True)])
    classes, first, member, count = np.unique(key, axis=1, return_index=True, return_inverse=True, return_counts=True)
    constant, slope, theta0 = line.constant[first], line.slope[first], log_start[first]
    member = member.reshape(-1)
    equal_slopes = np.ptp(slope) == 0.0

    def state(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        shifted = theta - theta.max()
        log_pi = shifted - np.log(count @ np.exp(shifted))
        pi = np.exp(log_pi)
        advantage = constant - slope * np.maximum(log_pi, -LOST)
        return log_pi, advantage, pi * (advantage - (count * pi) @ advantage)

    def direction(_: float, theta: FloatArray) -> FloatArray:
        push = state(theta)[2]
        return push / max(float(np.linalg.norm(push)), np.finfo(float).tiny)

    def lead(_: float, theta: FloatArray) -> float:
        """Return a number that is positive once the winner is certain."""
        log_pi, advantage = state(theta)[:2]
        best = int(np.argmax(log_pi))
        margin = min(float(np.delete(x[best] - x, best).min()) for x in (log_pi, advantage))
        if not equal_slopes:
            rest = np.delete(count * np.exp(log_pi), best).sum()
            margin = min(margin, float(np.log(COLLAPSED / max(rest, np.finfo(float).tiny))))
        return float(np.clip(margin, -1.0, 1.0)) - DECIDED

    lead.terminal = True  # pyright: ignore[reportFunctionMemberAccess]

    def winner(theta: FloatArray) -> int:
        if classes.shape[1] == 1:
            return 0
        if lead(0.0, theta) <= 0.0:
            result = solve_ivp(
                direction, (0.0, LONGEST_CURVE), theta, method="LSODA", rtol=1e-9, atol=1e-9, events=lead
            )
            if result.status != 1:
                return -1
            theta = result.y[:, -1]
        return int(np.argmax(theta))

    first_place = winner(theta0)
    if first_place < 0 or winner(theta0 - HANDICAP * (np.arange(theta0.size) == first_place)) != first_place:
        raise InputError("start", "a policy between two basins", "a start whose flow ends in one outcome")
    winners = member == first_place
    return np.where(winners, -np.log(winners.sum()), -np.inf)
