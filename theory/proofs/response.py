"""T4 and T7: how the Gibbs optimum answers to its weights, and to errors in log p and in the reward."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.result import ALWAYS, ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, NORMALISED, PI, I, J, K, R, derivative, mean, total

ALPHA, BETA_INV, EPSILON = sp.symbols("alpha beta_inv epsilon", positive=True)
WORST = sp.tanh(ALPHA * EPSILON / 2)  # the largest change in total variation
EXAMPLE = ((8, 7, 1, 1, 1, 1, 1), (0, 1, 0, 0, 0, 0, 0))  # 20 p and r: the mode is wrong, the runner-up right


def _weight(index: sp.Symbol) -> sp.Expr:
    return sp.exp(ALPHA * LOG_P[index] + BETA_INV * R[index])


def _expectation(values: sp.Expr) -> sp.Expr:
    """Return E[values] under the optimum, values depending on the index i."""
    return total(_weight(I) * values) / total(_weight(I))


def response(d: Derivation, *, sign: int = 1, spread: int = 1) -> None:
    """Derive the response of the expected reward.

    Args:
        d: Takes the steps.
        sign: Claimed multiple of the covariance in d E[r] / d alpha.
        spread: Claimed multiple of the variance in d E[r] / d beta_inv.
    """
    log_z = sp.log(total(_weight(I)))
    d.equal(
        "log Z, with Z the sum of exp(alpha ell + beta_inv r), ell = log p, generates the moments: its slope in "
        "beta_inv is the expected reward.",
        sp.diff(log_z, BETA_INV),
        _expectation(R[I]),
        shown=sp.Derivative(log_z, BETA_INV),
        scope=ANY_N,
    )
    covariance = _expectation(R[I] * LOG_P[I]) - _expectation(R[I]) * _expectation(LOG_P[I])
    d.equal(
        "The mixed second derivative of log Z, which is the slope of E[r] in alpha, is the covariance of r and log p.",
        sp.diff(log_z, BETA_INV, ALPHA),
        sign * covariance,
        shown=sp.Derivative(sp.log(sp.Symbol("Z")), BETA_INV, ALPHA),
        scope=ANY_N,
    )
    d.equal(
        "The second derivative in beta_inv is the variance of r.",
        sp.diff(log_z, BETA_INV, 2),
        spread * (_expectation(R[I] ** 2) - _expectation(R[I]) ** 2),
        shown=sp.Derivative(sp.log(sp.Symbol("Z")), (BETA_INV, 2)),
        scope=ANY_N,
    )
    d.equal(
        "A variance is half the mean squared difference of two independent draws.",
        mean(R[I] ** 2) - mean(R[I]) ** 2,
        mean(mean((R[I] - R[J]) ** 2, J)) / 2,
        given=NORMALISED,
        scope=ANY_N,
    )
    d.has_sign(
        "Its terms are not negative: more weight on the task reward never lowers the expected reward.",
        PI[I] * PI[J] * (R[I] - R[J]) ** 2,
        "nonnegative",
        scope=ANY_N,
    )
    _rise_and_fall(d, sign)
    _response_numbers(d, sign, spread)


def _in_primes(number: Any) -> Any:
    """Return a rational combination of logarithms as one of logarithms of primes, which is unique."""
    return sp.expand(sp.expand_log(number, factor=True))


def _rise_and_fall(d: Derivation, sign: int) -> None:
    p = [sp.Rational(x, 20) for x in EXAMPLE[0]]
    reward = sum(x**ALPHA * r for x, r in zip(p, EXAMPLE[1], strict=True)) / sum(x**ALPHA for x in p)
    slope = sp.diff(reward, ALPHA)
    for alpha, direction in ((1, "positive"), (3, "negative")):
        point = _in_primes(slope.subs(ALPHA, alpha))
        weights = [x**alpha / sum(y**alpha for y in p) for x in p]
        logs = sum(w * sp.log(x) for w, x in zip(weights, p, strict=True))
        both = sum(w * sp.log(x) * r for w, x, r in zip(weights, p, EXAMPLE[1], strict=True))
        value = sum(w * r for w, r in zip(weights, EXAMPLE[1], strict=True))
        covariance = _in_primes(both - value * logs)
        rises = "rises" if direction == "positive" else "falls"
        d.equal(
            f"For p = (8, 7, 1, 1, 1, 1, 1)/20 with the second outcome correct, the slope at alpha = {alpha} is this "
            "covariance.",
            point,
            sign * covariance,
            shown=sp.Subs(sp.Derivative(sp.Symbol("E[r]"), ALPHA), ALPHA, alpha),
            scope="an example, which is all that the claim needs",
        )
        d.has_sign(
            f"At alpha = {alpha} accuracy {rises}: the curve goes up and then down.",
            covariance,
            direction,
            scope="an example, which is all that the claim needs",
        )


def _response_numbers(d: Derivation, sign: int, spread: int) -> None:
    """Compare with mpmath's numerical derivatives in 40 digits."""
    import mpmath

    errors = []
    for _ in range(20):
        n = int(d.rng.integers(2, 30))
        p, r = d.rng.dirichlet(np.ones(n)), d.rng.normal(size=n)
        alpha, b = float(d.rng.uniform(0.0, 4.0)), float(d.rng.uniform(0.0, 4.0))

        def expected(alpha: float, b: float, p: np.ndarray = p, r: np.ndarray = r) -> Any:
            w = [mpmath.mpf(float(x)) ** alpha * mpmath.exp(b * float(y)) for x, y in zip(p, r, strict=True)]
            return mpmath.fdot(w, [float(y) for y in r]) / mpmath.fsum(w)

        weights = p**alpha * np.exp(b * r)
        moments = np.cov(np.stack([r, np.log(p)]), aweights=weights / weights.sum(), ddof=0)
        with mpmath.workdps(40):
            errors.append(float(mpmath.diff(expected, (alpha, b), (1, 0))) - sign * moments[0, 1])
            errors.append(float(mpmath.diff(expected, (alpha, b), (0, 1))) - spread * moments[0, 0])
    claim = sp.Eq(
        sp.Derivative(sp.Symbol("E[r]"), ALPHA), sign * sp.Function("Cov")(sp.Symbol("r"), sp.Symbol("log p"))
    )
    d.confirm("Numerical derivatives agree with both.", claim, errors, 1e-11, "20 random problems, n up to 29")


def sensitivity(d: Derivation, *, gain: sp.Expr = ALPHA, bound: sp.Expr = WORST, tilt: sp.Expr = BETA_INV) -> None:
    """Derive the worst case.

    Args:
        d: Takes the steps.
        gain: Claimed factor of the Jacobian in log p.
        bound: Claimed largest change of p^alpha, in alpha and epsilon.
        tilt: Claimed factor of the tilted optimum's Jacobian in the reward; takes the place of alpha in the bound.
    """
    weights = total(sp.exp(ALPHA * LOG_P[I]))
    optimum = sp.exp(ALPHA * LOG_P[K]) / weights
    other = sp.exp(ALPHA * LOG_P[J]) / weights
    d.equal(
        "The derivative of pi*_k = exp(alpha ell_k) / Z in ell_j = log p_j.",
        derivative(optimum, LOG_P[J]),
        gain * optimum * (sp.KroneckerDelta(J, K) - other),
        shown=sp.Derivative(sp.Symbol("pi_k"), LOG_P[J]),
        scope=ANY_N,
    )
    member: Any = sp.IndexedBase("s", nonnegative=True)
    mass = total(member[I] * PI[I])
    d.equal(
        "The mass m of a set S (s_i = 1 inside, 0 outside) therefore rises with every error inside S and falls with "
        "every error outside: the extreme errors are +epsilon on S and -epsilon off it.",
        total(member[I] * ALPHA * PI[I] * (sp.KroneckerDelta(I, J) - PI[J])),
        ALPHA * PI[J] * (member[J] - mass),
        scope=ANY_N,
    )
    _worst_mass(d, bound)
    tilted = _weight(K) / total(_weight(I))
    d.equal(
        "For errors of the reward of the tilted optimum the same Jacobian has beta_inv in place of alpha, and so has "
        "the largest change: tanh(beta_inv epsilon_r / 2).",
        derivative(tilted, R[J]),
        tilt * tilted * (sp.KroneckerDelta(J, K) - tilted.subs(K, J)),
        shown=sp.Derivative(sp.Symbol("pi_k"), R[J]),
        scope=ANY_N,
    )
    reward_bound: Any = bound.subs(ALPHA, tilt)
    d.limit("An exact verifier leaves nothing to lose.", reward_bound, EPSILON, 0, 0)
    _sensitivity_numbers(d, bound, reward_bound)


def _worst_mass(d: Derivation, bound: sp.Expr) -> None:
    difference = sp.Symbol("d", real=True)
    d.equal(
        "Total variation is the largest change of the mass of a set, that of the outcomes that gain: differences d sum "
        "to zero and |d| = 2 max(d, 0) - d.",
        2 * sp.Max(difference, 0).rewrite(sp.Abs) - difference,
        sp.Abs(difference),
        shown=2 * sp.Max(difference, 0, evaluate=False) - difference,
    )
    t, m = sp.Symbol("t", positive=True), sp.Symbol("m", positive=True)
    change = m * t / (m * t + (1 - m) / t) - m
    best = 1 / (1 + t)
    d.equal(
        "A set of mass m changes by f(m), with t = exp(alpha epsilon) > 1. f' vanishes at m = 1 / (1 + t).",
        sp.diff(change, m).subs(m, best),
        0,
        shown=sp.Subs(sp.Derivative(change, m), m, best),
    )
    above, rest = sp.symbols("a b", positive=True)  # t = 1 + a and m = 1 / (1 + b), which lies in (0, 1)
    curvature: Any = sp.factor(sp.simplify(sp.diff(change, m, 2).subs({m: 1 / (1 + rest), t: 1 + above})))
    d.has_sign(
        "f'' is negative on 0 < m < 1 (t = 1 + a, m = 1 / (1 + b) with a, b > 0), so that is the maximum.",
        curvature,
        "negative",
    )
    d.equal(
        "The largest change.",
        sp.simplify(change.subs(m, best)).subs(t, sp.exp(ALPHA * EPSILON)),
        bound,
        shown=sp.Subs(sp.Function("f")(m), m, best),
    )
    d.equal(
        "Lowering S by its worst is raising the rest by it: the other worst mass is 1 / (1 + 1/t) = 1 - 1 / (1 + t).",
        -change.subs(t, 1 / t),
        change.subs(m, 1 - m),
        scope=ALWAYS,
    )
    d.limit("Sharper targets are as fragile as can be: the mode flips.", bound, ALPHA, sp.oo, 1)


def _sensitivity_numbers(d: Derivation, bound: sp.Expr, reward_bound: sp.Expr) -> None:
    """Search all corners of the box of errors, and the mass of two outcomes, for the largest change."""
    shown, reward_shown = (sp.Le(sp.Symbol("TV"), each, evaluate=False) for each in (bound, reward_bound))
    excess, reward_excess, gaps = [], [], []
    for _ in range(10):
        n, weight = int(d.rng.integers(2, 9)), float(d.rng.uniform(0.3, 5.0))
        epsilon = float(d.rng.uniform(0.05, 1.0))
        level, other = np.log(d.rng.dirichlet(np.ones(n))), d.rng.normal(size=n)
        values = {ALPHA: weight, BETA_INV: weight, EPSILON: epsilon}
        most, reward_most = (float(sp.sympify(each).subs(values)) for each in (bound, reward_bound))
        corners, inside = _changes(d, weight * level, weight * epsilon)
        excess += [max(0.0, corners - most), max(0.0, inside - corners)]
        corners, inside = _changes(d, 1.3 * level + weight * other, weight * epsilon)
        reward_excess += [max(0.0, corners - reward_most), max(0.0, inside - corners)]
        attained = _best_pair(weight * epsilon)
        gaps += [attained - most, attained - reward_most]
    drawn = "10 random problems"
    d.confirm("No corner of the box and no random error does worse.", shown, excess, 1e-14, drawn)
    d.confirm("The same for errors of the reward, at alpha = 1.3.", reward_shown, reward_excess, 1e-14, drawn)
    d.confirm(
        "On two outcomes of the worst mass both bounds are attained.",
        sp.Eq(sp.Symbol("TV"), bound, evaluate=False),
        gaps,
        1e-12,
        "10 random weights and epsilon",
    )


def _changes(d: Derivation, logits: np.ndarray, shift: float) -> tuple[float, float]:
    """Return the largest total variation at the corners of the box of shifts, and at random shifts within it."""
    from scipy.special import softmax

    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=logits.size)))
    found = []
    for errors in (corners, d.rng.uniform(-1.0, 1.0, (500, logits.size))):
        moved = softmax(logits + shift * errors, axis=1)
        found.append(float(np.abs(moved - softmax(logits)).sum(axis=1).max() / 2))
    return found[0], found[1]


def _best_pair(shift: float) -> float:
    """Return the largest change of two outcomes' masses over all masses, errors +shift and -shift of the logits."""
    from scipy.optimize import minimize_scalar

    def loss(logit: float) -> float:
        return 1 / (1 + np.exp(-logit)) - 1 / (1 + np.exp(-logit - 2 * shift))

    return -minimize_scalar(loss, bounds=(-20, 20), options={"xatol": 1e-9}, method="bounded").fun


T4 = Theorem(
    "T4",
    "Response to the weights",
    "d/d alpha E[r] = Cov(r, log p) and d/d beta_inv E[r] = Var(r) >= 0 under the optimum p^alpha exp(beta_inv r) / Z: "
    "the task reward can only help, sharpening helps exactly while reward and likelihood correlate under the current "
    "target, and accuracy may rise and then fall in alpha.",
    r"\frac{\partial}{\partial\alpha} E_{\pi^*}[r] = \mathrm{Cov}_{\pi^*}(r, \log p), \qquad "
    r"\frac{\partial}{\partial\beta^{-1}} E_{\pi^*}[r] = \mathrm{Var}_{\pi^*}(r) \ge 0",
    response,
)
T7 = Theorem(
    "T7",
    "Sensitivity to errors",
    "d pi*_i / d log p_j = alpha pi*_i (delta_ij - pi*_j). Errors of log p of at most epsilon change pi* by at most "
    "tanh(alpha epsilon / 2) in total variation; this is attained, and tends to 1 as alpha grows. For the tilt it is "
    "tanh(beta_inv epsilon_r / 2) in the reward's error, which is 0 when the verifier is exact.",
    r"\frac{\partial\pi^*_i}{\partial \log p_j} = \alpha \pi^*_i(\delta_{ij} - \pi^*_j), \qquad "
    r"\max_{\|\delta\|_\infty \le \varepsilon} \mathrm{TV}(\pi^*, \pi^*_\delta) \le \tanh\frac{\alpha\varepsilon}{2}",
    sensitivity,
)
