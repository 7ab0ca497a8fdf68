"""Numerical confirmations of T14: the package's estimators against differences of KL and J, and against samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.estimators import exact as estimators
from sharpen.theory.proofs.notation import runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

TASK = Objective(alpha=0.0, beta_inv=1.0, mode="optimization")
DRAWS = 40_000
ERRORS = 5.0  # standard errors, which a normal variable exceeds once in two million draws


def _differences(value: Callable[[np.ndarray], float], theta: np.ndarray) -> np.ndarray:
    """Return the gradient of a function of pi = softmax(theta) by central differences, shape [n]."""

    def at(logits: np.ndarray) -> float:
        weights = np.exp(logits - logits.max())
        return value(weights / weights.sum())

    steps = 1e-5 * np.eye(theta.size)
    return np.array([(at(theta + h) - at(theta - h)) / 2e-5 for h in steps])


def compare_kl_terms(d: Derivation, found: dict[str, tuple[int, int]], shown: Any) -> None:
    """Compare the package's expectations with differences of both divergences, in the claimed multiples."""
    errors = []
    for _ in range(6):
        n = int(d.rng.integers(2, 6))
        p, theta = d.rng.dirichlet(np.full(n, 3.0)), d.rng.normal(size=n)
        pi = np.exp(theta) / np.exp(theta).sum()
        given = estimators.setting(TASK, Problem(p, np.arange(n)), pi, 2)
        reverse = _differences(lambda x, p=p: float(x @ np.log(x / p)), theta)
        forward = _differences(lambda x, p=p: float(p @ np.log(p / x)), theta)
        for name, (first, second) in found.items():
            term, place = name.split()
            expectation = estimators.kl_estimate(given, term, place).expectation
            errors.append(np.max(np.abs(expectation - first * reverse - second * forward)))
    d.confirm(
        say(
            "The package's expectations, of this and the other estimators, agree with differences of both divergences."
        ),
        shown,
        errors,
        1e-8,
        say("{} random policies and references", 6),
    )


def compare_advantages(d: Derivation, rloo: int, shrink: Callable[[float], float], shown: Any) -> None:
    """Compare the package's means and variances with differences of E[R] and with sampled groups."""
    errors, excess = [], []
    sizes = runs(sp.Symbol("G"), (2, 4))
    for size in sizes:
        n = int(d.rng.integers(2, 5))
        theta, reward = d.rng.normal(size=n), d.rng.normal(size=n)
        pi = np.exp(theta) / np.exp(theta).sum()
        gradient = _differences(lambda x, r=reward: float(x @ r), theta)
        given = estimators.setting(TASK, Problem(np.full(n, 1 / n), reward, d.rng.integers(1, 9, n)), pi, size)
        for name, factor in (("rloo", rloo), ("mean-baseline", shrink(size))):
            exact = estimators.policy_gradient_estimate(given, name)
            errors.append(np.max(np.abs(exact.expectation - factor * gradient)))
        for name in ("rloo", "grpo"):
            for how in ("sequence-sum", "token-mean"):
                excess += _sampled_excess(d, given, name, how, reward)
    d.confirm(
        say("The package's means of RLOO and the mean baseline agree with differences of the expected reward."),
        shown,
        errors,
        1e-8,
        say("{}", sizes),
    )
    d.confirm(
        say(
            "Sampled groups have the package's means and variances: what differs by more than {} standard errors.",
            int(ERRORS),
        ),
        sp.Symbol("E[g]"),
        excess,
        1e-12,
        say("RLOO and GRPO, both aggregations, {} groups each", DRAWS),
    )


def _sampled_excess(d: Derivation, given: estimators.Setting, name: str, how: str, reward: np.ndarray) -> list[float]:
    """Return how far the sampled mean and mean square are from the package's beyond the errors of sampling."""
    size, pi = given.groups.size, given.policy
    drawn = d.rng.choice(pi.size, size=(DRAWS, size), p=pi)
    rewards = reward[drawn]
    if name == "rloo":
        advantage = rewards - (rewards.sum(axis=1, keepdims=True) - rewards) / (size - 1)
    else:
        spread = np.std(rewards, axis=1, ddof=1, keepdims=True)
        same = np.all(drawn == drawn[:, :1], axis=1, keepdims=True)
        advantage = np.where(same, 0.0, (rewards - rewards.mean(axis=1, keepdims=True)) / np.where(same, 1.0, spread))
    tokens = given.problem.length[drawn].sum(axis=1)
    scale = np.full(DRAWS, 1 / size) if how == "sequence-sum" else 1 / tokens
    gradient = np.einsum("gs,gsn->gn", advantage * scale[:, None], np.eye(pi.size)[drawn] - pi)
    exact = estimators.policy_gradient_estimate(given, name, how)
    square = np.sum((gradient - exact.expectation) ** 2, axis=1)
    found = [*((column, mean) for column, mean in zip(gradient.T, exact.expectation, strict=True))]
    found.append((square, exact.variance))
    return [max(0.0, abs(x.mean() - mean) - ERRORS * x.std() / np.sqrt(DRAWS)) for x, mean in found]
