"""Numerical confirmations of T11 and T24: the map applied in many digits, and every sample of a few outcomes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.instability import selfsharpening
from sharpen.theory.proofs.notation import Short, runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

ALPHA = sp.Symbol("alpha", positive=True)
ROUNDS = sp.Symbol("k", integer=True, nonnegative=True)
GAP = sp.Symbol("g", positive=True)
COPIES = sp.Symbol("K", integer=True, positive=True)
MASS = sp.Symbol("q", positive=True)


def compare_map(
    d: Derivation, exponent: sp.Expr, inside: sp.Expr, rate: sp.Expr, image: Any, eigenvalue: Any, fall: Any
) -> None:
    """Compare the claims and the package with the map itself, applied in 60 digits."""
    import mpmath

    orbits, package, slopes, speeds, rounds = [], [], [], [], []
    with mpmath.workdps(60):
        for _ in range(8):
            n, k, alpha = int(d.rng.integers(2, 7)), int(d.rng.integers(1, 7)), float(d.rng.uniform(0.4, 2.0))
            p = d.rng.dirichlet(np.ones(n))
            end = _iterated(list(p), alpha, k)
            power = float(exponent.subs({ALPHA: alpha, ROUNDS: k}))
            claimed = _tempered(list(p), power)
            orbits += [float(x - y) for x, y in zip(end, claimed, strict=True)]
            found = np.exp(selfsharpening.iterate(np.log(p), alpha, k))
            package += [float(x) - y for x, y in zip(end, found, strict=True)]
            slopes.append(np.max(np.abs(_differences(p, alpha) - selfsharpening.jacobian(p, alpha))))
            step = _differences(np.full(n, 1 / n), alpha)[:, 0] - _differences(np.full(n, 1 / n), alpha)[:, 1]
            slopes += [step[0] - float(inside.subs(ALPHA, alpha)), step[1] + float(inside.subs(ALPHA, alpha))]
        odds = mpmath.log(mpmath.mpf("0.6") / mpmath.mpf("0.4"))
        for k in range(4, 8):
            last = min(_iterated([mpmath.mpf("0.6"), mpmath.mpf("0.4")], 2, k))
            limit = mpmath.mpf(sp.N(rate.subs(GAP, sp.log(sp.Rational(3, 2))), 40))
            speeds.append(float((mpmath.log(last / (1 - last)) / 2**k - limit) / odds))
        rounds = [_first_collapsed(p, alpha, eps) for p, alpha, eps in _COLLAPSES]
    listed = [selfsharpening.collapse(np.log(p), alpha, epsilon) for p, alpha, epsilon in _COLLAPSES]
    gaps = [found.rounds - brute if found else np.inf for found, brute in zip(listed, rounds, strict=True)]
    drawn = say("{} random policies", 8)
    d.confirm(say("Applying the map again and again, in many digits, gives the power."), image, orbits, 1e-13, drawn)
    d.confirm(say("The package's closed form does, too."), image, package, 1e-12, drawn)
    words = say("Differences of the map agree with the package's Jacobian and the eigenvalue.")
    d.confirm(words, eigenvalue, slopes, 1e-12, drawn)
    words = say("The logarithm of the odds against the mode after {} to {} rounds.", 4, 7)
    scope = say("{}, {}", runs(sp.Symbol("p"), [sp.Rational(3, 5), sp.Rational(2, 5)]), runs(ALPHA, [2]))
    d.confirm(words, fall, speeds, 1e-12, scope)
    words = say("The package counts the rounds to collapse as applying the map until it has collapsed does.")
    d.confirm(words, ROUNDS, gaps, 0.0, say("{} policies", len(gaps)))


_COLLAPSES = (([0.6, 0.4], 2.0, 1e-6), ([0.4, 0.35, 0.25], 1.5, 1e-9), ([0.26, 0.25, 0.25, 0.24], 1.1, 1e-3))


def _tempered(p: list, power: float) -> list:
    import mpmath

    weights = [mpmath.mpf(x) ** power for x in p]
    return [w / mpmath.fsum(weights) for w in weights]


def _iterated(p: list, alpha: float, rounds: int) -> list:
    for _ in range(rounds):
        p = _tempered(p, alpha)
    return p


def _first_collapsed(p: list[float], alpha: float, epsilon: float) -> int:
    rounds, now = 0, list(p)
    while max(now) < 1 - epsilon:
        rounds, now = rounds + 1, _tempered(now, alpha)
    return rounds


def _differences(p: np.ndarray, alpha: float) -> np.ndarray:
    """Return the Jacobian of F by central differences of width 1e-20 in the working precision, shape [n, n]."""
    import mpmath

    columns, width = [], mpmath.mpf("1e-20")
    for j in range(p.size):
        ends = [
            _tempered([mpmath.mpf(x) + sign * width * (i == j) for i, x in enumerate(p)], alpha) for sign in (1, -1)
        ]
        columns.append([float((x - y) / (2 * width)) for x, y in zip(*ends, strict=True)])
    return np.array(columns).T


def compare_retraining(d: Derivation, fall: Any, bound: Any, time: Any, rate: Any, rounds: Any, a: Any) -> None:
    """Compare with SciPy's multinomial and binomial, and with the exact chain of two outcomes."""
    from scipy.stats import binom, multinomial

    means, beyond, waits = [], [], []
    for _ in range(6):
        p, k = d.rng.dirichlet(np.ones(3)), int(d.rng.integers(2, 9))
        counts = np.array([c for c in itertools.product(range(k + 1), repeat=3) if sum(c) == k])
        left = float(multinomial.pmf(counts, k, p) @ (1 - np.sum((counts / k) ** 2, axis=1)))
        means.append(left - float(fall.rhs.subs(COPIES, k).subs(fall.rhs.atoms(Short).pop(), 1 - float(p @ p))))
        q, many = float(d.rng.uniform(0.52, 0.95)), int(d.rng.integers(5, 200))
        beyond.append(max(0.0, binom.cdf(many // 2, many, q) - np.exp(many * float(rate.subs(MASS, q)))))
    many = 200
    inside = np.arange(1, many)
    chain = binom.pmf(inside[None, :], many, inside[:, None] / many)
    exact = np.linalg.solve(np.eye(many - 1) - chain, np.ones(many - 1))
    for start in (20, 100, 150):
        waits.append(float(rounds.subs({COPIES: many, a: sp.Rational(start, many)})) / exact[start - 1] - 1)
    drawn = say("{} random policies", 6)
    d.confirm(say("SciPy's multinomial has the same mean diversity."), fall, means, 1e-12, drawn)
    d.confirm(say("SciPy's binomial loses the mode no more often than the bound."), bound, beyond, 1e-12, drawn)
    d.confirm(say("The exact chain of two outcomes and {} samples, relative to the equation's solution.", many), time,
              waits, 0.02, say("three starts"))  # fmt: skip
