"""Numerical confirmations of T21 to T25 except T24: draws of samples, grids of exponents, differences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import preset
from sharpen.theory.audit import price
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

ALPHA = sp.Symbol("alpha", positive=True)
SMALL = 1e-8  # nats


def changes_of_sign(signs: Sequence[int]) -> int:
    """Return how often neighbours differ."""
    return sum(a != b for a, b in itertools.pairwise(signs))


def compare_samples(d: Derivation, power: Any, inflation: Any, forecast: Any, size: Any) -> None:
    """Compare with every possible draw of a few samples, and with SciPy's binomial for many."""
    from scipy.stats import binom

    slopes, spread, sizes = [], [], []
    for _ in range(5):
        p, r, draws = d.rng.dirichlet(np.ones(4)), np.array([1.0, 0.0, *d.rng.integers(0, 2, 2)]), 4
        rows = np.array(list(itertools.product(range(4), repeat=draws)))
        chance = np.prod(p[rows], axis=1)
        x, y = r[rows], np.log(p)[rows]
        found = ((x - x.mean(axis=1, keepdims=True)) * (y - y.mean(axis=1, keepdims=True))).sum(axis=1) / (draws - 1)
        slopes.append(float(chance @ found) - float(np.cov(r, np.log(p), aweights=p, ddof=0)[0, 1]))
    for _ in range(5):
        a, alpha, many = float(d.rng.uniform(0.2, 0.8)), float(d.rng.uniform(0.5, 3)), 20_000
        values = {ALPHA: alpha}
        w, rest = a ** float(power.subs(values)), (1 - a) ** float(power.subs(values))
        right = np.arange(many + 1)
        estimate = right * w / (right * w + (many - right) * rest)
        chances = binom.pmf(right, many, a)
        mean_estimate = float(chances @ estimate)
        best = optimum(preset("tempered", alpha=alpha), Problem([a, 1 - a], [1, 0])).expected_reward
        spread.append(mean_estimate - best)
        variance = many * float(chances @ (estimate - mean_estimate) ** 2)
        first = (a * w**2 * (1 - best) ** 2 + (1 - a) * rest**2 * best**2) / (a * w + (1 - a) * rest) ** 2
        spread.append(variance / first - 1)
        ess = (a * w**2 + (1 - a) * rest**2) / (a * w + (1 - a) * rest) ** 2
        e = float(inflation.subs(values))
        sizes.append((a**e + (1 - a) ** e) / (a**alpha + (1 - a) ** alpha) ** 2 - ess)
    drawn = say("{} random problems", 5)
    d.confirm(say("Over all draws of {} samples the sample covariance has the covariance as its mean.", 4), forecast,
              slopes, 1e-12, drawn)  # fmt: skip
    d.confirm(say("Of many samples, by SciPy's binomial, the estimate and its variance are those of first order."),
              forecast, spread, 2e-3, drawn)  # fmt: skip
    d.confirm(say("The loss of samples by its definition."), size, sizes, 1e-12, drawn)


def compare_turns(d: Derivation, gap: Any) -> None:
    """Count crossings of the package's optimum on a fine grid of exponents beside those of its calibration curve."""
    exponents, extra, seen, totals = np.linspace(0.05, 12.0, 600), [], 0, []
    for _ in range(150):
        n = int(d.rng.integers(3, 9))
        problem = Problem(d.rng.dirichlet(np.ones(n)), d.rng.uniform(0, 1, n))
        weights = np.exp(np.outer(exponents, problem.log_base))
        response = weights @ problem.reward / weights.sum(axis=1)
        curve = price.calibration(problem)
        power = np.exp(2.5 * curve.logprob) * curve.mass / np.exp(curve.logprob)
        best = optimum(preset("tempered", alpha=2.5), problem).expected_reward
        totals.append(float(power @ curve.expected_reward / power.sum()) - best)
        for level in np.quantile(response, [0.2, 0.5, 0.8]):
            signs = np.sign(response - level)
            crossed = changes_of_sign([int(x) for x in signs if x])
            seen = max(seen, crossed)
            extra.append(float(max(0, crossed - curve.crossings(float(level)))))
    d.confirm(say("The curve alone gives the package's optimum at an exponent."), gap, totals, 1e-12,
              say("{} random problems", 150))  # fmt: skip
    words = say("On a grid of exponents no response crosses a level more often than its curve; the most was {}.", seen)
    d.confirm(words, gap, extra, 0.0, say("{} random problems at three levels each", 150))  # fmt: skip


def compare_prices(d: Derivation, ratio: Any, bound: Any) -> None:
    """Compare small steps of the package's optima, and every power with what its divergence buys."""
    from scipy.optimize import brentq
    from scipy.special import rel_entr

    ratios, beyond = [], []
    for _ in range(6):
        n = int(d.rng.integers(3, 7))
        p, r = d.rng.dirichlet(np.ones(n)) + 0.02, np.array([1.0, 0.0, *d.rng.integers(0, 2, n - 2)])
        p /= p.sum()
        gains = []
        for h in (np.log(p), r):

            def moved(t: float, h: np.ndarray = h, p: np.ndarray = p) -> np.ndarray:
                w = p * np.exp(t * (h - h.max()))
                return w / w.sum()

            size = float(brentq(lambda t, moved=moved, p=p: rel_entr(moved(t), p).sum() - SMALL, 1e-7, 1.0, xtol=1e-15))  # pyright: ignore[reportArgumentType]
            gains.append(float((moved(size) - p) @ r))
        ratios.append(gains[0] / gains[1] - float(price.price(Problem(p, r)) or 0.0))
        for alpha in np.linspace(0.0, 8.0, 17):
            w = p**alpha / np.sum(p**alpha)
            beyond.append(max(0.0, price.coin_kl(float(w @ r), float(p @ r)) - float(rel_entr(w, p).sum())))
    drawn = say("{} random problems", 6)
    d.confirm(say("At a small divergence the package's price is the ratio of the gains."), ratio, ratios, 2e-3, drawn)
    d.confirm(say("No power's accuracies are further apart than its divergence."), bound, beyond, 1e-12, drawn)


def compare_slopes(d: Derivation, slope: Any) -> None:
    """Compare the package's slope with mpmath's derivative of pass@k."""
    import mpmath

    errors = []
    for _ in range(12):
        problems, k = [], int(d.rng.integers(1, 12))
        for _ in range(int(d.rng.integers(1, 4))):
            n = int(d.rng.integers(2, 8))
            problems.append(Problem(d.rng.dirichlet(np.ones(n)), np.array([1.0, *d.rng.integers(0, 2, n - 1)])))
        alpha = float(d.rng.uniform(0.3, 3))

        def passed(alpha: Any, problems: list[Problem] = problems, k: int = k) -> Any:
            found = mpmath.mpf(0)
            for one in problems:
                w = [mpmath.mpf(float(x)) ** alpha for x in one.base]
                right = mpmath.fdot(w, [float(x) for x in one.reward]) / mpmath.fsum(w)
                found += (1 - (1 - right) ** k) / len(problems)
            return found

        with mpmath.workdps(30):
            errors.append(float(mpmath.diff(passed, alpha)) - price.pass_at_k_slope(problems, k, alpha))
    d.confirm(say("Numerical derivatives of pass@k over several prompts agree with the package."), slope, errors, 1e-11,
              say("{} random mixes", 12))  # fmt: skip
