"""Bias and variance of gradient estimators for a tabular softmax policy, exactly, over every possible group of samples.

A group is G outcomes drawn independently from pi = softmax(theta). Every estimator here is
g = sum_i w_i (e_{x_i} - pi), because grad_theta log pi(x) = e_x - pi, with weights w_i that depend on the group's
outcomes but not on their order. So the n^G ordered groups are visited as C(n + G - 1, G) multisets, each with its
multinomial probability: expectation and covariance are sums, not simulations.

Two targets:

- the KL, grad KL(pi || p) = sum_x pi(x) log(pi(x)/p(x)) (e_x - pi), from k1 = log pi - log p,
  k2 = (log pi - log p)^2 / 2 and k3 = p/pi - 1 - log(p/pi), each placed in the reward (g = k(x)(e_x - pi), k a
  constant) or in the loss (g = grad k);
- the objective, grad J = pi (A - E_pi A) with the pseudo-reward A, from four advantages and three ways to aggregate the
  tokens of sequences of unequal length.

See docs/theory-estimators.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.core.flow import gradient
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import TIE_TOLERANCE

MAX_NUMBERS = 4 * 10**6  # multisets times the larger of outcomes and samples: about 0.3 GB and two seconds
EXACT = 1e-9  # of the estimator's root mean square: what multinomial sums may lose
ROUNDING = 1e-13  # of the numbers that the weights are differences of, which may cancel (a policy at its optimum)
KL = Objective(alpha=1.0, beta_inv=0.0, mode="sampling")  # J = -KL(pi || p)

ADVANTAGES = ("reinforce", "mean-baseline", "rloo", "grpo")
AGGREGATIONS = ("sequence-sum", "sequence-mean", "token-mean")
KL_TERMS = ("k1", "k2", "k3")
PLACEMENTS = ("reward", "loss")


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an estimator of a gradient with respect to the logits gives on average, and how it scatters.

    Attributes:
        name: ``k1``, ``k2``, ``k3``, or an advantage of :data:`ADVANTAGES`.
        placement: ``reward`` or ``loss`` for a KL term, an aggregation of :data:`AGGREGATIONS` for an advantage.
        target: The true gradient, shape [n].
        expectation: E[g], shape [n].
        covariance: Cov[g] of one group, shape [n, n].
        tolerance: Length below which a difference of gradients is rounding.
        unbiased: Whether E[g] is the target, up to rounding.
        proportional: Whether E[g] is a positive multiple of the target, up to rounding.
    """

    name: str
    placement: str
    target: FloatArray
    expectation: FloatArray
    covariance: FloatArray
    tolerance: float
    unbiased: bool
    proportional: bool

    @property
    def bias(self) -> FloatArray:
        """E[g] less the target, shape [n]."""
        return self.expectation - self.target

    @property
    def bias_norm(self) -> float:
        """Euclidean norm of the bias."""
        return float(np.linalg.norm(self.bias))

    @property
    def variance(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.covariance))

    @property
    def cosine(self) -> float | None:
        """Cosine of E[g] with the target; None if either is 0."""
        if self.is_zero or float(np.linalg.norm(self.target)) <= self.tolerance:
            return None
        lengths = float(np.linalg.norm(self.expectation)) * float(np.linalg.norm(self.target))
        return float(np.clip(self.expectation @ self.target / lengths, -1.0, 1.0))

    @property
    def scale(self) -> float | None:
        """E[g] along the target over the target's length; None if the target is 0."""
        if float(np.linalg.norm(self.target)) <= self.tolerance:
            return None
        return float(self.expectation @ self.target) / float(self.target @ self.target)

    @property
    def is_zero(self) -> bool:
        """Whether E[g] is 0, up to rounding."""
        return float(np.linalg.norm(self.expectation)) <= self.tolerance

    def row(self) -> dict[str, Any]:
        """Return the estimator as a row of a table."""
        names = ("bias_norm", "cosine", "scale", "variance", "unbiased", "proportional")
        about = {"name": self.name, "placement": self.placement, "target": self.about}
        return about | {name: getattr(self, name) for name in names}

    @property
    def about(self) -> str:
        """Whose gradient the target is: ``kl`` or ``objective``."""
        return "kl" if self.name in KL_TERMS else "objective"


@dataclass(frozen=True, eq=False)
class Groups:
    """Every group of G samples, as multisets.

    Attributes:
        counts: How often each outcome occurs, shape [N, n].
        probability: Of each multiset, shape [N].
        size: G.
    """

    counts: FloatArray
    probability: FloatArray
    size: int


@dataclass(frozen=True, eq=False)
class Setting:
    """What the estimators are asked about.

    Attributes:
        objective: J.
        problem: Reference p, rewards and lengths of n outcomes.
        policy: pi, shape [n], positive.
        groups: Every group of samples from pi.
    """

    objective: Objective
    problem: Problem
    policy: FloatArray
    groups: Groups

    @property
    def log_ratio(self) -> FloatArray:
        """The log-ratio log pi - log p, shape [n]."""
        return np.log(self.policy) - self.problem.log_base


def setting(objective: Objective, problem: Problem, policy: ArrayLike, group: int) -> Setting:
    """Return the checked setting.

    Args:
        objective: J; with a moving reference p is the policy, and J's gradient that of the pseudo-reward.
        problem: n outcomes of positive base probability.
        policy: pi, shape [n], positive, sum within 1e-6 of one (then normalised).
        group: G >= 1.

    Raises:
        InputError: an argument is out of range, or there are too many groups to visit.
    """
    if not problem.support.all():
        raise InputError("base", problem.base.tolist(), "positive probabilities, because k1, k2 and k3 divide by them")
    pi = np.asarray(policy, dtype=np.float64)
    if pi.shape != (problem.n,) or not np.all((pi > 0) & (pi < np.inf)) or abs(pi.sum() - 1.0) > 1e-6:
        raise InputError("policy", policy, f"{problem.n} positive probabilities whose sum is 1")
    pi = pi / pi.sum()
    return Setting(objective, problem, pi, enumerate_groups(pi, group))


def enumerate_groups(policy: FloatArray, group: int) -> Groups:
    """Return every multiset of ``group`` samples with its probability G! prod_x pi(x)^k_x / k_x!.

    Raises:
        InputError: the group is empty, or C(n + G - 1, G) max(n, G) is above 4 million.
    """
    n = policy.size
    if group < 1:
        raise InputError("group", group, "a whole number >= 1")
    if group > MAX_NUMBERS or math.comb(n + group - 1, group) * max(n, group) > MAX_NUMBERS:
        raise InputError(
            "group", group, f"a size with C(n + G - 1, G) max(n, G) <= {MAX_NUMBERS:,} for n = {n} outcomes"
        )
    total = math.comb(n + group - 1, group)
    drawn = itertools.chain.from_iterable(itertools.combinations_with_replacement(range(n), group))
    index = np.fromiter(drawn, dtype=np.int32, count=total * group).reshape(total, group)
    counts = np.stack([np.sum(index == x, axis=1) for x in range(n)], axis=1).astype(np.float64)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, group + 1)))])
    orders = log_factorial[group] - log_factorial[counts.astype(np.intp)].sum(axis=1)
    return Groups(counts, np.exp(orders + counts @ np.log(policy)), group)


def kl_gradient(problem: Problem, policy: FloatArray) -> FloatArray:
    """Return grad_theta KL(pi || p), shape [n]."""
    return -gradient(KL, problem, np.log(policy))


def forward_kl_gradient(problem: Problem, policy: FloatArray) -> FloatArray:
    """Return grad_theta KL(p || pi) = -sum_x p(x) (e_x - pi) = pi - p, shape [n]."""
    return policy - problem.base


def kl_estimate(given: Setting, term: str, placement: str) -> Estimate:
    """Return the estimator (1/G) sum_i w(x_i)(e_{x_i} - pi) of grad KL(pi || p).

    In the reward w = k(x). In the loss w is the derivative of k in log pi: 1 for k1, log pi - log p for k2 and
    1 - p/pi for k3.

    Raises:
        InputError: the term or the placement is unknown, or the weights overflow.
    """
    if term not in KL_TERMS:
        raise InputError("term", term, ", ".join(KL_TERMS))
    if placement not in PLACEMENTS:
        raise InputError("placement", placement, ", ".join(PLACEMENTS))
    ratio = given.log_ratio
    with np.errstate(over="ignore", invalid="ignore"):
        in_reward = {"k1": ratio, "k2": ratio**2 / 2, "k3": np.expm1(-ratio) + ratio}
        in_loss = {"k1": np.ones_like(ratio), "k2": ratio, "k3": -np.expm1(-ratio)}
    weight = (in_reward if placement == "reward" else in_loss)[term]
    weights = np.broadcast_to(weight / given.groups.size, given.groups.counts.shape)
    magnitude = 1.0 + float(np.max(np.abs(np.log(given.policy)) + np.abs(given.problem.log_base)))
    return moments(given, term, placement, kl_gradient(given.problem, given.policy), weights, magnitude)


def policy_gradient_estimate(given: Setting, advantage: str, aggregation: str = "sequence-sum") -> Estimate:
    """Return the estimator sum_i a_i A_i (e_{x_i} - pi) of grad J.

    Advantages A_i, with R the pseudo-rewards of the group: ``reinforce`` R_i; ``mean-baseline`` R_i - mean R (GRPO
    without the division); ``rloo`` R_i less the mean of the others; ``grpo`` (R_i - mean R) / std R with divisor G - 1
    in the variance (0 where all are equal).

    Aggregations a_i: ``sequence-sum`` 1/G; ``sequence-mean`` 1/(G |x_i|), each sequence's tokens averaged first;
    ``token-mean`` 1/sum_j |x_j|, the mean over the batch's tokens.

    Raises:
        InputError: a name is unknown, or G = 1 with ``rloo`` or ``grpo``.
    """
    if advantage not in ADVANTAGES:
        raise InputError("advantage", advantage, ", ".join(ADVANTAGES))
    if aggregation not in AGGREGATIONS:
        raise InputError("aggregation", aggregation, ", ".join(AGGREGATIONS))
    log_pi = np.log(given.policy)
    reward = given.objective.pseudo_reward(
        reward=given.problem.reward,
        ref_logprob=given.problem.log_base if given.objective.refresh_every is None else log_pi,
        policy_logprob=log_pi,
        length=given.problem.length,
    )
    weights = _ADVANTAGE[advantage](given.groups, reward) * _aggregate(given, aggregation)
    target = gradient(given.objective, given.problem, log_pi)
    return moments(given, advantage, aggregation, target, weights, float(np.max(np.abs(reward))))


def estimates(given: Setting) -> Rows[Estimate]:
    """Return every estimator: the six KL terms, then the advantages with each aggregation.

    Raises:
        InputError: the group has one sample (RLOO and GRPO compare samples), or weights overflow.
    """
    terms = [kl_estimate(given, term, placement) for term in KL_TERMS for placement in PLACEMENTS]
    rest = [policy_gradient_estimate(given, name, how) for how in AGGREGATIONS for name in ADVANTAGES]
    return Rows((*terms, *rest))


def _mean(groups: Groups, reward: FloatArray) -> FloatArray:
    return (groups.counts @ reward / groups.size)[:, None]


def _mean_baseline(groups: Groups, reward: FloatArray) -> FloatArray:
    return reward - _mean(groups, reward)


def _rloo(groups: Groups, reward: FloatArray) -> FloatArray:
    _needs_two(groups)
    others = (groups.counts @ reward)[:, None] - reward
    return reward - others / (groups.size - 1)


def _grpo(groups: Groups, reward: FloatArray) -> FloatArray:
    _needs_two(groups)
    centred = _mean_baseline(groups, reward)
    deviation = np.sqrt(np.sum(groups.counts * centred**2, axis=1, keepdims=True) / (groups.size - 1))
    differ = deviation > TIE_TOLERANCE * np.max(np.abs(reward))  # the mean of equal rewards is rounded
    return np.where(differ, centred / np.where(differ, deviation, 1.0), 0.0)


def _needs_two(groups: Groups) -> None:
    if groups.size < 2:
        raise InputError("group", groups.size, "at least 2 samples, because they are compared with each other")


_ADVANTAGE: dict[str, Callable[[Groups, FloatArray], FloatArray]] = {
    "reinforce": lambda groups, reward: np.broadcast_to(reward, groups.counts.shape),
    "mean-baseline": _mean_baseline,
    "rloo": _rloo,
    "grpo": _grpo,
}


def _aggregate(given: Setting, aggregation: str) -> FloatArray:
    """Return a_x for each group and outcome, broadcastable to [N, n]."""
    groups, length = given.groups, given.problem.length
    if aggregation == "sequence-sum":
        return np.full((1, 1), 1.0 / groups.size)
    if aggregation == "sequence-mean":
        return (1.0 / (groups.size * length))[None, :]
    return 1.0 / (groups.counts @ length)[:, None]


def moments(
    given: Setting, name: str, placement: str, target: FloatArray, weights: FloatArray, magnitude: float
) -> Estimate:
    """Return the moments of sum_x counts_x weights_x (e_x - pi) over the groups.

    Args:
        given: The policy and its groups.
        name: Of the estimator.
        placement: Likewise.
        target: The true gradient, shape [n].
        weights: Of a sample of each outcome in each group, shape [N, n].
        magnitude: Of the numbers that the weights are differences of.

    Raises:
        InputError: weights overflow.
    """
    probability = given.groups.probability
    with np.errstate(over="ignore", invalid="ignore"):
        total = given.groups.counts * weights  # [N, n]
        drawn = total - total.sum(axis=1, keepdims=True) * given.policy
        expectation = probability @ drawn
        centred = drawn - expectation
        covariance = (centred * probability[:, None]).T @ centred
    if not np.all(np.isfinite(covariance)) or not np.all(np.isfinite(target)):
        raise InputError(
            "policy",
            given.policy.tolist(),
            "one whose log-ratios to the base, times alpha and beta_inv, do not overflow",
        )
    tolerance = EXACT * math.sqrt(float(np.trace(covariance) + expectation @ expectation)) + ROUNDING * magnitude
    along = float(expectation @ target) / max(float(target @ target), np.finfo(float).tiny)
    return Estimate(
        name=name,
        placement=placement,
        target=target,
        expectation=expectation,
        covariance=covariance,
        tolerance=tolerance,
        unbiased=float(np.linalg.norm(expectation - target)) <= tolerance,
        proportional=along > 0 and float(np.linalg.norm(expectation - along * target)) <= tolerance,
    )
