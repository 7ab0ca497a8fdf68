"""T4 and T7: how the Gibbs optimum answers to its weights, and to errors in log p and in the reward."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, by_value, evaluate, runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import AN_EXAMPLE, ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, NORMALISED, PI, I, J, K, R, mean, total

ALPHA, BETA_INV, EPSILON = sp.symbols("alpha beta_inv epsilon", positive=True)
WORST = sp.tanh(ALPHA * EPSILON / 2)  # the largest change in total variation
EXAMPLE = ((8, 7, 1, 1, 1, 1, 1), (0, 1, 0, 0, 0, 0, 0))  # 20 p and r: the mode is wrong, the runner-up right


def _weight(index: sp.Symbol) -> sp.Expr:
    return sp.exp(ALPHA * LOG_P[index] + BETA_INV * R[index])


def _expectation(values: sp.Expr) -> sp.Expr:
    """Return E[values] under the optimum, values depending on the index i."""
    return total(_weight(I) * values) / total(_weight(I))


EXPECTED = Short("E[r]", _expectation(R[I]))
LOG_Z = sp.log(Short("Z", total(_weight(I))))
COVARIANCE = Short("Cov(r, log p)", _expectation(R[I] * LOG_P[I]) - _expectation(R[I]) * _expectation(LOG_P[I]))
VARIANCE = Short("Var(r)", _expectation(R[I] ** 2) - _expectation(R[I]) ** 2)


def response(d: Derivation, *, sign: int = 1, spread: int = 1) -> None:
    """Derive the response of the expected reward.

    Args:
        d: Takes the steps.
        sign: Claimed multiple of the covariance in d E[r] / d alpha.
        spread: Claimed multiple of the variance in d E[r] / d beta_inv.
    """
    d.equal(
        say("The optimum weighs an outcome of log-likelihood {} and reward {} with {}. Their sum {} generates the "
            "moments, and first the expected reward.", LOG_P, R, _weight(I), LOG_Z.args[0]),
        sp.Derivative(LOG_Z, BETA_INV),
        EXPECTED,
        scope=ANY_N,
    )  # fmt: skip
    d.equal(
        say("Its mixed second derivative is the covariance of reward and log-likelihood under the optimum."),
        sp.Derivative(LOG_Z, BETA_INV, ALPHA),
        sign * COVARIANCE,
        scope=ANY_N,
    )
    in_alpha = d.equal(
        say("So that is what a little more {} does to the expected reward.", ALPHA),
        sp.Derivative(EXPECTED, ALPHA),
        sign * COVARIANCE,
        scope=ANY_N,
    )
    in_beta = d.equal(
        say("And a little more {}, the variance of the reward.", BETA_INV),
        sp.Derivative(EXPECTED, BETA_INV),
        spread * VARIANCE,
        scope=ANY_N,
    )
    terms = mean(mean((R[I] - R[J]) ** 2, J)) / 2
    square = spread * PI[I] * PI[J] * (R[I] - R[J]) ** 2
    only = by_sign(square, "help", "hurt")
    d.equal(
        say("A variance, of any policy, from the differences of two independent draws."),
        mean(R[I] ** 2) - mean(R[I]) ** 2,
        terms,
        given=NORMALISED,
        scope=ANY_N,
    )
    positive = d.has_sign(
        say("So it has the sign of these terms: more weight on the task reward can only {}.", only),
        square,
        "nonnegative",
        scope=ANY_N,
    )
    turns = _rise_and_fall(d, sign)
    _response_numbers(d, sign, spread, in_alpha, in_beta)
    d.state(
        "Under the optimum {}, and {} with {}. So the task reward can only {}, while what sharpening does depends on "
        "how reward and likelihood go together under the current target. In an example accuracy first {}, {}, and then "
        "{}, {}.",
        in_alpha, in_beta, positive, only, *turns,
    )  # fmt: skip


def _in_primes(number: Any) -> Any:
    """Return a rational combination of logarithms as one of logarithms of primes, which is unique."""
    return sp.expand(sp.expand_log(number, factor=True))


def _rise_and_fall(d: Derivation, sign: int) -> list[Any]:
    """Follow the example at two exponents; return a word and a relation for each."""
    p = [sp.Rational(x, 20) for x in EXAMPLE[0]]
    accuracy = Short(
        "E[r]",
        sum(x**ALPHA * r for x, r in zip(EXAMPLE[0], EXAMPLE[1], strict=True)) / sum(x**ALPHA for x in EXAMPLE[0]),
    )
    found: list[Any] = []
    for alpha, direction in ((1, "positive"), (3, "negative")):
        weights = [x**alpha / sum(y**alpha for y in p) for x in p]
        logs = sum(w * sp.log(x) for w, x in zip(weights, p, strict=True))
        both = sum(w * sp.log(x) * r for w, x, r in zip(weights, p, EXAMPLE[1], strict=True))
        value = sum(w * r for w, r in zip(weights, EXAMPLE[1], strict=True))
        covariance = _in_primes(both - value * logs)
        slope = sp.Subs(sp.Derivative(accuracy, ALPHA), ALPHA, alpha)
        d.equal(
            say("For {} with the second outcome correct, the slope here is this covariance.",
                runs(sp.Symbol("p") * sum(EXAMPLE[0]), EXAMPLE[0])),
            slope,
            sign * covariance,
            by=_in_primes(evaluate(slope)),
            scope=AN_EXAMPLE,
        )  # fmt: skip
        word = by_sign(covariance, "rises", "falls")
        found += [word, d.has_sign(say("There accuracy {}.", word), covariance, direction, scope=AN_EXAMPLE)]
        found[-1] = d.compare(say("That is, the slope has this sign."), slope, direction, 0,
                              by=_in_primes(evaluate(slope)), scope=AN_EXAMPLE)  # fmt: skip
    return found


def _response_numbers(d: Derivation, sign: int, spread: int, in_alpha: Any, in_beta: Any) -> None:
    """Compare with mpmath's numerical derivatives in 40 digits."""
    import mpmath

    first, second = [], []
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
            first.append(float(mpmath.diff(expected, (alpha, b), (1, 0))) - sign * moments[0, 1])
            second.append(float(mpmath.diff(expected, (alpha, b), (0, 1))) - spread * moments[0, 0])
    drawn = say("{} random problems of up to {} outcomes", 20, 29)
    d.confirm(say("Numerical derivatives agree."), in_alpha, first, 1e-11, drawn)
    d.confirm(say("Those in {}, too.", BETA_INV), in_beta, second, 1e-11, drawn)


def sensitivity(d: Derivation, *, gain: sp.Expr = ALPHA, bound: sp.Expr = WORST, tilt: sp.Expr = BETA_INV) -> None:
    """Derive the worst case.

    Args:
        d: Takes the steps.
        gain: Claimed factor of the Jacobian in log p.
        bound: Claimed largest change of p^alpha, in alpha and epsilon.
        tilt: Claimed factor of the tilted optimum's Jacobian in the reward; takes the place of alpha in the bound.
    """
    weights = total(sp.exp(ALPHA * LOG_P[I]))
    optimum, other = (Short(f"pi^*_{x}", sp.exp(ALPHA * LOG_P[x]) / weights) for x in (K, J))
    jacobian = d.equal(
        say("How the optimum {} depends on a log-likelihood {}.", optimum, LOG_P[J]),
        sp.Derivative(optimum, LOG_P[J]),
        gain * optimum * (sp.KroneckerDelta(J, K) - other),
        scope=ANY_N,
    )
    member: Any = sp.IndexedBase("s", nonnegative=True)
    mass = total(member[I] * PI[I])
    d.equal(
        say("What an error at {} does to the mass of a set, of members {}: those inside and those outside have "
            "opposite signs, so the extreme errors are {} inside and its opposite outside.", J, member, EPSILON),
        total(member[I] * ALPHA * PI[I] * (sp.KroneckerDelta(I, J) - PI[J])),
        ALPHA * PI[J] * (member[J] - mass),
        scope=ANY_N,
    )  # fmt: skip
    worst, flips = _worst_mass(d, bound)
    tilted, tilted_other = (Short(f"pi_{x}", _weight(x) / total(_weight(I))) for x in (K, J))
    d.equal(
        say("For errors of the reward of the tilted optimum {} the same Jacobian has another factor in front.", tilted),
        sp.Derivative(tilted, R[J]),
        tilt * tilted * (sp.KroneckerDelta(J, K) - tilted_other),
        scope=ANY_N,
    )
    both = _reward_bound(d, bound, tilt)
    exact = d.limit(say("An exact verifier leaves nothing to lose."), both.rhs, EPSILON, 0, 0)
    _sensitivity_numbers(d, worst, both)
    d.state(
        "The optimum's Jacobian is {}. Errors of the log-likelihoods of up to {} change it in total variation by {}, "
        "and this is attained; {}: the mode {}. Errors of the reward change the tilted optimum by {}, and {}.",
        jacobian, EPSILON, worst, flips, by_value(flips.rhs, "flips", "stays"), both, exact,
    )  # fmt: skip


def _worst_mass(d: Derivation, bound: sp.Expr) -> tuple[Any, Any]:
    """Add the largest change and its limit; return their equations."""
    difference = sp.Symbol("d", real=True)
    d.equal(
        say("Total variation is the largest change of the mass of a set, that of the outcomes that gain, as the "
            "differences {} of two policies sum to zero.", difference),
        2 * sp.Max(difference, 0, evaluate=False) - difference,
        sp.Abs(difference),
    )  # fmt: skip
    t, m = sp.Symbol("t", positive=True), sp.Symbol("m", positive=True)
    change = Short("f(m)", m * t / (m * t + (1 - m) / t) - m)
    best = 1 / (1 + t)
    odds = {t: sp.exp(ALPHA * EPSILON)}
    d.equal(
        say("So a set of mass {} changes by {}, and this is stationary here.", m, change),
        sp.Subs(sp.Derivative(change, m), m, best),
        0,
    )
    above, rest = sp.symbols("a b", positive=True)  # t = 1 + a and m = 1 / (1 + b), which lies in (0, 1)
    put = {m: 1 / (1 + rest), t: 1 + above}
    second = sp.Derivative(change, (m, 2))
    curvature: Any = sp.factor(sp.simplify(evaluate(second).subs(put)))
    d.has_sign(
        say("The change is a {} there.", by_sign(curvature, "maximum", "minimum")),
        second,
        "negative",
        by=curvature,
        where=put,
    )
    worst = d.equal(
        say("The largest change in total variation."),
        Short("max TV", sp.Subs(change, m, best)),
        bound,
        by=sp.simplify(evaluate(change).subs(m, best)).subs(odds),
        where=odds,
    )
    d.equal(
        say("Lowering a set by its worst is raising the rest by it: no other mass does worse."),
        -sp.Subs(change, t, 1 / t),
        sp.Subs(change, m, 1 - m),
    )
    flips = d.limit(say("What it tends to as the target gets sharper."), bound, ALPHA, sp.oo, 1)
    return worst, flips


def _reward_bound(d: Derivation, bound: Any, tilt: Any) -> Any:
    """Add the largest change of the tilted optimum, from the same set; return its equation."""
    t, m = sp.Symbol("t", positive=True), sp.Symbol("m", positive=True)
    change = m * t / (m * t + (1 - m) / t) - m
    odds: dict[Any, Any] = {t: sp.exp(BETA_INV * EPSILON)}
    return d.equal(
        say("And with it the largest change, of a reward that errs by up to {}.", EPSILON),
        Short("max TV_r", sp.Subs(change, m, 1 / (1 + t))),
        bound.subs(ALPHA, tilt),
        by=sp.simplify(change.subs(m, 1 / (1 + t))).subs(odds),
        where=odds,
    )


def _sensitivity_numbers(d: Derivation, worst: Any, both: Any) -> None:
    """Search all corners of the box of errors, and the mass of two outcomes, for the largest change."""
    excess, reward_excess, gaps = [], [], []
    for _ in range(10):
        n, weight = int(d.rng.integers(2, 9)), float(d.rng.uniform(0.3, 5.0))
        epsilon = float(d.rng.uniform(0.05, 1.0))
        level, other = np.log(d.rng.dirichlet(np.ones(n))), d.rng.normal(size=n)
        values: dict[Any, Any] = {ALPHA: weight, BETA_INV: weight, EPSILON: epsilon}
        most, reward_most = (float(each.rhs.subs(values)) for each in (worst, both))
        corners, inside = _changes(d, weight * level, weight * epsilon)
        excess += [max(0.0, corners - most), max(0.0, inside - corners)]
        corners, inside = _changes(d, 1.3 * level + weight * other, weight * epsilon)
        reward_excess += [max(0.0, corners - reward_most), max(0.0, inside - corners)]
        attained = _best_pair(weight * epsilon)
        gaps += [attained - most, attained - reward_most]
    drawn = say("{} random problems", 10)
    d.confirm(say("No corner of the box and no random error does worse."), worst, excess, 1e-14, drawn)
    d.confirm(say("The same for errors of the reward."), both, reward_excess, 1e-14, drawn)
    d.confirm(say("On two outcomes of the worst mass both bounds are attained."), worst, gaps, 1e-12,
              say("{} random weights and {}", 10, EPSILON))  # fmt: skip


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


T4 = Theorem("T4", "Response to the weights", response)
T7 = Theorem("T7", "Sensitivity to errors", sensitivity)
