"""Numerical confirmations of T17 to T20: SciPy's minimisation, grids, groups drawn one by one, verdicts drawn."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima import utilities
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

CONCAVE = ("log", "pass@3")


def _problem(d: Derivation) -> tuple[np.ndarray, np.ndarray]:
    n = int(d.rng.integers(3, 7))
    p = d.rng.dirichlet(np.ones(n)) + 0.01
    return p / p.sum(), np.array([1.0, 0.0, *d.rng.integers(0, 2, n - 2)])


def _best(value: Any, p: np.ndarray) -> np.ndarray:
    """Return the policy of best value by BFGS over logits."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    found = minimize(lambda theta: -value(np.exp(log_softmax(theta))), np.log(p), method="BFGS", options={"gtol": 1e-9})
    return np.exp(log_softmax(found.x))


def compare_exponents(d: Derivation, slope: Any) -> None:
    """Compare the package's optima with SciPy's, the objective written out."""
    from scipy.special import entr

    errors = []
    for _ in range(6):
        p, r = _problem(d)
        right, wrong, b = float(d.rng.uniform(0, 2)), float(d.rng.uniform(0.5, 3)), float(d.rng.uniform(0, 2))
        potential = b * r + np.where(r == 1, right, wrong) * np.log(p)

        def value(pi: np.ndarray, u: np.ndarray = potential) -> float:
            return float(pi @ u + entr(pi).sum())

        found = optimum(Objective(alpha=wrong, alpha_right=right, beta_inv=b), Problem(p, r)).probabilities
        errors += list(found - _best(value, p))
    d.confirm(say("The package's optimum is SciPy's."), slope, errors, 1e-5, say("{} random problems", 6))


def compare_solutions(d: Derivation, marginal: Any, fold: Any) -> None:
    """Compare optima with SciPy's, and the number of solutions of the arcsine with signs on a grid."""
    from scipy.special import expit, rel_entr

    errors, counts = [], []
    for name in CONCAVE:
        for _ in range(3):
            p, r = _problem(d)
            b = float(d.rng.uniform(0.3, 3))

            def value(pi: np.ndarray, p: np.ndarray = p, r: np.ndarray = r, b: float = b, name: str = name) -> float:
                rate = float(pi @ r)
                gain = np.log(rate) if name == "log" else 1 - (1 - rate) ** 3
                return float(gain - rel_entr(pi, p).sum() / b)

            found = optimum(Objective(beta_inv=b, utility=name), Problem(p, r)).probabilities
            errors += list(found - _best(value, p))
    grid = np.linspace(-25.0123, 25.0457, 400_001)
    rate = expit(grid)
    for _ in range(40):
        start, beta = float(d.rng.uniform(-6, 1)), float(d.rng.uniform(0.2, 4))
        signs = np.sign((rate * (1 - rate)) ** -0.5 / beta - (grid - start))
        seen = int(np.count_nonzero(np.diff(signs)))
        counts.append(seen - len(utilities.roots("arcsin", start, 1 / beta)))
        border = float(fold.rhs.subs(sp.Symbol("beta", positive=True), beta))
        counts.append(seen - (2 if start < border else 0))
    drawn = say("{} random problems", 6)
    d.confirm(say("The package's optimum is SciPy's, for the logarithm and for pass@k."), marginal, errors, 1e-5, drawn)
    d.confirm(say("Changes of sign on a grid are as many as the package's solutions, and as the fold says."), fold,
              counts, 1e-9, say("{} random pairs of base and weight", 40))  # fmt: skip


def compare_groups(d: Derivation, zero: Any, minus: Any, orders: Any, others: Any) -> None:
    """Compare with the gradient of all groups over three outcomes of a softmax."""
    group = sp.Symbol("G", integer=True, positive=True)
    for claim, order, empty in ((zero, orders, 0.0), (minus, others, -1.0)):
        errors = []
        for size in (2, 3, 4):
            pi, r = d.rng.dirichlet(np.ones(3)), np.array([1.0, 0.0, float(d.rng.integers(0, 2))])
            rate, mean_gradient = float(pi @ r), np.zeros(3)
            for drawn in itertools.product(range(3), repeat=size):
                rewards = r[list(drawn)]
                share = rewards.mean()
                advantages = (rewards - share) / share if share else np.full(size, empty)
                scores = np.eye(3)[list(drawn)] - pi
                mean_gradient += np.prod(pi[list(drawn)]) * (advantages @ scores) / size
            slope = (1 - (1 - rate) ** int(order.subs(group, size))) / rate
            errors += list(mean_gradient - slope * pi * (r - rate))
        d.confirm(say("The mean over all groups of three outcomes of a softmax."), claim, errors, 1e-12,
                  say("{} random policies", 3))  # fmt: skip


def compare_verdicts(d: Derivation, gradient: Any, factor: Any) -> None:
    """Compare RLOO in pairs, over all samples and verdicts, with the factor; and its variance with one draw's."""
    errors = []
    true, false = (sp.Symbol(name, positive=True) for name in ("t", "f"))
    for _ in range(5):
        pi, r = d.rng.dirichlet(np.ones(3)), np.array([1.0, 0.0, float(d.rng.integers(0, 2))])
        rates = d.rng.uniform(0.05, 0.95, 2)
        passes = np.where(r == 1, rates[0], rates[1])
        found = np.zeros(3)
        for pair in itertools.product(range(3), repeat=2):
            for verdict in itertools.product((0, 1), repeat=2):
                chance = np.prod(
                    [pi[x] * (passes[x] if v else 1 - passes[x]) for x, v in zip(pair, verdict, strict=True)]
                )
                one = (verdict[0] - verdict[1]) * (np.eye(3)[pair[0]] - np.eye(3)[pair[1]]) / 2
                found += chance * one
        value = float(factor.subs({true: rates[0], false: rates[1]}))
        errors += list(found - value * pi * (r - pi @ r))
    d.confirm(say("RLOO in pairs, over all samples and all verdicts."), gradient, errors, 1e-12,
              say("{} random policies and verifiers", 5))  # fmt: skip
