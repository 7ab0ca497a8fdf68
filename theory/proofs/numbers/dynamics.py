"""Numerical confirmations of T12: flows and eigenvalues from differences of J alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import Objective
from sharpen.theory.core import flow
from sharpen.theory.core.problem import Problem
from sharpen.theory.instability import stationary
from sharpen.theory.proofs.notation import runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

W_H = sp.Symbol("w_h", positive=True)
OBJECTIVES = (
    Objective(alpha=2.0),
    Objective(alpha=0.5, beta_inv=2.0),
    Objective(alpha=3.0, beta_inv=1.0, mode="optimization"),
)
STEPS = (1e-2, 5e-3)  # of mirror descent
Value = Callable[[np.ndarray], Any]  # J of logits [..., n]


def _drawn(d: Derivation, objective: Objective) -> tuple[Problem, np.ndarray, Value]:
    """Return a random problem, random logits, and J of logits of shape [..., n]."""
    n = int(d.rng.integers(2, 6))
    problem = Problem(d.rng.dirichlet(np.full(n, 3.0)), d.rng.normal(size=n))

    def value(theta: np.ndarray) -> np.ndarray:
        return objective.value(
            policy_logprob=theta - np.logaddexp.reduce(theta, axis=-1, keepdims=True),
            reward=problem.reward,
            ref_logprob=problem.log_base,
            length=problem.length,
        )

    return problem, d.rng.normal(size=n), value


def _slopes(function: Callable[[np.ndarray], Any], at: np.ndarray) -> np.ndarray:
    """Return central differences in every entry, derivatives last."""
    width = 1e-5
    shifts = width * np.eye(at.size)
    return np.stack([(function(at + h) - function(at - h)) / (2 * width) for h in shifts], axis=-1)


def _velocity(value: Value, theta: np.ndarray, natural: bool) -> np.ndarray:
    """Return the logits' velocity from J alone: its differences, for the natural gradient over Fisher's matrix."""
    width = 1e-5
    shifts = width * np.eye(theta.size)
    ends = value(np.concatenate([theta + shifts, theta - shifts]))
    gradient = (ends[: theta.size] - ends[theta.size :]) / (2 * width)
    if not natural:
        return gradient
    pi = np.exp(theta - np.logaddexp.reduce(theta))
    scores = np.eye(theta.size) - pi
    return np.linalg.pinv(scores.T @ (pi[:, None] * scores), rcond=1e-10) @ gradient


def compare_fields(d: Derivation, shown: sp.Basic) -> None:
    """Compare the package's fields with differences of J, as ``shown`` says they are."""
    errors = []
    for objective in OBJECTIVES:
        for _ in range(4):
            problem, theta, value = _drawn(d, objective)
            pi = np.exp(theta - np.logaddexp.reduce(theta))
            jacobian = np.diag(pi) - np.outer(pi, pi)
            for natural, field in ((True, flow.vector_field), (False, flow.softmax_field)):
                velocity = jacobian @ _velocity(value, theta, natural)
                errors.append(np.max(np.abs(velocity - field(objective, problem, pi))))
    d.confirm(
        say(
            "The package's two fields agree with differences of the objective and a pseudo-inverse of Fisher's matrix."
        ),
        shown,
        errors,
        1e-7,
        say("{} random problems", len(errors) // 2),
    )


def compare_steps(d: Derivation) -> None:
    """Compare one step of mirror descent with the natural flow, for two step sizes."""
    orders = []
    for objective in OBJECTIVES[:2]:  # without entropy A is constant and the step exact
        _, theta, value = _drawn(d, objective)
        gaps = []
        for eta in STEPS:
            end = _path(value, theta, eta, True, 1e-9)[-1]
            euler = theta + eta * _velocity(value, theta, True)
            gaps.append(np.linalg.norm((end - end.mean()) - (euler - euler.mean())))
        orders.append(np.log2(gaps[0] / gaps[1]))
    d.measured(
        say("The order in the step size at which one step of mirror descent leaves the natural flow."),
        sp.Symbol("order"),
        2,
        orders,
        0.05,
        say("fitted, {}, {} random problems", runs(sp.Symbol("eta"), STEPS), len(orders)),
    )


def _path(value: Value, start: np.ndarray, time: float, natural: bool, accuracy: float) -> np.ndarray:
    """Return the logits along a flow, shape [steps, n]."""
    from scipy.integrate import solve_ivp

    return solve_ivp(
        lambda _, theta: _velocity(value, theta, natural), (0.0, time), start, rtol=accuracy, atol=accuracy
    ).y.T


def compare_flows(d: Derivation, inside: sp.Expr, eigenvalue: Any, rises: Any) -> None:
    """Integrate both flows from J alone; compare ``inside`` with eigenvalues of differences at every fixed point."""
    falls, ends, eigenvalues = [], [], []
    for objective in OBJECTIVES:
        problem, theta, value = _drawn(d, objective)
        pi = np.exp(theta - np.logaddexp.reduce(theta))
        w_h = objective.coefficients.w_h
        for natural in (True, False):
            end = 12.0 / w_h if w_h else 3.0  # soon no outcome is left to difference without entropy
            path = _path(value, theta, end, natural, 1e-6)
            falls.append(max(0.0, -float(np.min(np.diff(value(path))))))
            if natural and w_h:
                last = np.exp(path[-1] - np.logaddexp.reduce(path[-1]))
                ends.append(np.max(np.abs(last - flow.limit(objective, problem, pi))))
        if w_h:
            for point in stationary.fixed_points(objective, problem).points:
                eigenvalues += _tangent_gaps(objective, problem, point, float(inside.subs(W_H, w_h)))
    drawn = say("{} random problems", len(OBJECTIVES))
    words = say("The objective goes no other way along either flow, followed by an ODE solver that knows it only.")
    d.confirm(words, rises, falls, 1e-7, drawn)
    d.confirm(say("The natural flow ends where the package says."), sp.Symbol("pi^*"), ends, 1e-4, drawn)
    d.confirm(
        say("Differences of the field within every support give the claimed eigenvalue, and the package the same."),
        eigenvalue,
        eigenvalues,
        1e-6,
        say("every fixed point of {} random problems", sum(bool(each.coefficients.w_h) for each in OBJECTIVES)),
    )


def _tangent_gaps(objective: Objective, problem: Problem, point: stationary.FixedPoint, claimed: float) -> list[float]:
    """Return the eigenvalues within a support, of differences of u - w_h log pi and the package's, less the claimed."""
    kept = list(point.support)
    u = objective.potential(reward=problem.reward, ref_logprob=problem.log_base, length=problem.length)[kept]
    w_h = objective.coefficients.w_h

    def field(pi: np.ndarray) -> np.ndarray:
        advantage = u - w_h * np.log(pi)
        return pi * (advantage - pi @ advantage)

    size = len(kept)
    pi = point.probabilities[kept]
    matrix = np.diag(1 / pi) @ _slopes(lambda y: field(pi * np.exp(y)), np.zeros(size))  # in logits: v = pi y
    basis = np.linalg.svd(pi[None, :])[2][1:].T  # directions y with E y = 0 are those v of sum zero
    tangent = np.linalg.eigvals(basis.T @ matrix @ basis).real
    finite = point.eigenvalues[np.isfinite(point.eigenvalues)]
    counted = float(abs(finite.size - (size - 1)))
    return [*(tangent - claimed), *(finite - claimed), counted]
