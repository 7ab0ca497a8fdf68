"""T11: the self-sharpening map pi -> pi^alpha / Z, its orbits, fixed points and how fast it collapses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory import selfsharpening
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, PI, I, J, K, N, Z, derivative, total

ALPHA = sp.Symbol("alpha", positive=True)
ROUNDS = sp.Symbol("k", integer=True, nonnegative=True)
SIZE = sp.Symbol("s", integer=True, positive=True)  # of a support
GAP = sp.Symbol("g", positive=True)
EXCESS = sp.Symbol("a", positive=True)  # alpha = 1 + a above 1
DEFICIT = sp.Symbol("b", positive=True)  # alpha = 1 - b below 1
DEPTH = sp.Symbol("x", positive=True)  # a probability exp(-x) that falls to 0 as x grows
V: Any = sp.IndexedBase("v", real=True)  # a direction
EPSILON = sp.Symbol("epsilon", positive=True)


def self_sharpening(
    d: Derivation,
    *,
    exponent: sp.Expr = ALPHA**ROUNDS,
    count: sp.Expr = 2**N - 1,
    inside: sp.Expr = ALPHA,
    across: tuple[sp.Expr, sp.Expr, sp.Expr] = (sp.Integer(0), sp.Integer(1), sp.oo),
    stable: tuple[sp.Expr, sp.Expr] = (N, sp.Integer(1)),
    rate: sp.Expr = -GAP,
) -> None:
    """Derive the map's orbits, fixed points and their stability.

    Args:
        d: Takes the steps.
        exponent: Claimed exponent after k rounds.
        count: Claimed number of fixed points.
        inside: Claimed eigenvalue within the support.
        across: Claimed growth factor of a lost outcome for alpha above, at and below 1.
        stable: Claimed numbers of stable fixed points for alpha above and below 1.
        rate: Claimed limit of log((1 - pi_mode) / pi_mode) / alpha^k, g the log-ratio of the two likeliest.
    """
    _orbit(d, exponent)
    _map_fixed_points(d, count)
    _map_jacobian(d, inside)
    _lost_outcome(d, across)
    _map_classes(d, inside, across, stable)
    _collapse(d, rate)
    _map_numbers(d, exponent, inside, rate)


def _orbit(d: Derivation, exponent: sp.Expr) -> None:
    a = sp.Symbol("a", positive=True)
    power = sp.exp(a * LOG_P[K]) / Z
    d.equal(
        "One round of F takes p^a / Z to p^(alpha a) / Z': the old normaliser Z cancels (ell = log p).",
        power**ALPHA / total((sp.exp(a * LOG_P[I]) / Z) ** ALPHA),
        sp.exp(ALPHA * a * LOG_P[K]) / total(sp.exp(ALPHA * a * LOG_P[I])),
        scope=ANY_N,
    )
    d.equal("The exponent before the first round.", exponent.subs(ROUNDS, 0), 1)
    d.equal(
        "So each round multiplies the exponent by alpha, and by induction this is the exponent after k rounds.",
        ALPHA * exponent,
        exponent.subs(ROUNDS, ROUNDS + 1),
    )


def _map_fixed_points(d: Derivation, count: sp.Expr) -> None:
    odds = ALPHA * LOG_P[J] - ALPHA * LOG_P[K]
    d.equal(
        "F multiplies every log-odds by alpha, so it changes it by alpha - 1 times itself. For alpha other than 1 a "
        "policy is fixed exactly if all its positive probabilities are equal (0 stays 0).",
        odds - (LOG_P[J] - LOG_P[K]),
        (ALPHA - 1) * (LOG_P[J] - LOG_P[K]),
        scope=ANY_N,
    )
    d.equal(
        "The uniform policy on any support is fixed.",
        (1 / N) ** ALPHA / total((1 / N) ** ALPHA),
        1 / N,
        scope="any number n of outcomes in the support",
    )
    d.equal("At alpha = 1 it changes nothing: every policy is fixed.", odds.subs(ALPHA, 1), LOG_P[J] - LOG_P[K])
    d.equal(
        "One fixed point for each non-empty support.",
        sp.summation(sp.binomial(N, SIZE), (SIZE, 1, N)),
        count,
        shown=sp.Sum(sp.binomial(N, SIZE), (SIZE, 1, N)),
        scope=ANY_N,
    )


def _map_jacobian(d: Derivation, inside: sp.Expr) -> None:
    image = PI[K] ** ALPHA / total(PI[I] ** ALPHA)
    jacobian = ALPHA * image * (sp.KroneckerDelta(J, K) / PI[K] - image.subs(K, J) / PI[J])
    d.equal(
        "The Jacobian of F where all probabilities are positive. Off the diagonal row k has the factor F_k, so towards "
        "a lost outcome the Jacobian is triangular and the eigenvalues are those inside and those across.",
        derivative(image, PI[J]),
        jacobian,
        shown=sp.Derivative(sp.Symbol("F_k"), PI[J]),
        scope=ANY_N,
    )
    uniform = ALPHA * (sp.KroneckerDelta(J, K) - 1 / N)  # pi = F = 1/n cancels
    d.equal(
        "At the uniform policy of n outcomes.",
        jacobian.replace(lambda x: isinstance(x, sp.Indexed) and x.base == PI, lambda _: 1 / N),
        uniform,
        shown=sp.Symbol("DF_kj"),
        scope=ANY_N,
    )
    d.equal(
        "Every direction v whose entries sum to zero is an eigenvector, and these have |S| - 1 dimensions.",
        total(uniform * V[J], J),
        inside * V[K],
        given={total(V[I]): sp.Integer(0)},
        scope="any number n of outcomes in the support",
    )


def _lost_outcome(d: Derivation, across: tuple[sp.Expr, sp.Expr, sp.Expr]) -> None:
    weight = EPSILON**ALPHA + SIZE * ((1 - EPSILON) / SIZE) ** ALPHA
    rest = 1 / (EPSILON**ALPHA + SIZE ** (1 - ALPHA) * (1 - EPSILON) ** ALPHA)
    d.equal(
        "Give a lost outcome epsilon and leave the rest uniform on S, s outcomes. F multiplies epsilon by this.",
        EPSILON**ALPHA / EPSILON / (EPSILON**ALPHA + SIZE ** (1 - ALPHA) * (1 - EPSILON) ** ALPHA),
        EPSILON ** (ALPHA - 1) * rest,
        shown=EPSILON**ALPHA / EPSILON / weight,
        scope="0 < epsilon < 1",
    )
    d.equal(
        "The second factor is positive at epsilon = 0, so the first decides.",
        (1 / rest).subs(EPSILON**ALPHA, 0).subs(EPSILON, 0),
        SIZE ** (1 - ALPHA),
        shown=sp.Subs(1 / rest, EPSILON, 0),
    )
    first = sp.exp(-DEPTH * (ALPHA - 1))
    for words, alpha, factor in (
        ("above 1", 1 + EXCESS, across[0]),
        ("equal to 1", sp.Integer(1), across[1]),
        ("below 1", 1 - DEFICIT, across[2]),
    ):
        d.limit(
            f"With epsilon = exp(-x): the derivative across for alpha {words}.",
            sp.expand(first.subs(ALPHA, alpha)),
            DEPTH,
            sp.oo,
            factor,
            scope=f"alpha = {alpha}",
        )


def _map_classes(
    d: Derivation,
    inside: sp.Expr,
    across: tuple[sp.Expr, sp.Expr, sp.Expr],
    stable: tuple[sp.Expr, sp.Expr],
) -> None:
    d.equal(
        "For alpha > 1 the inside is unstable and the outside stable: stable are the supports without an inside "
        "direction, of one outcome; the uniform policy repels; the others are saddles.",
        sp.binomial(N, 1).expand(func=True),
        stable[0],
        shown=sp.binomial(N, 1, evaluate=False),
        scope=ANY_N,
    )
    d.equal(
        "For alpha < 1 it is the other way round: only the support without an outside is stable.",
        sp.binomial(N, N).simplify(),
        stable[1],
        shown=sp.binomial(N, N, evaluate=False),
        scope=ANY_N,
    )
    verdicts = []
    for n, above in itertools.product((2, 3, 4), (True, False)):
        alpha = sp.Integer(3) if above else sp.Rational(1, 3)
        outside = across[0] if above else across[2]
        kinds = []
        for size in range(1, n + 1):
            matrix = alpha * (sp.eye(size) - sp.ones(size, size) / size)
            values = list(matrix.eigenvals(multiple=True))
            values.remove(0)  # of the direction (1, ..., 1), which leaves the simplex
            verdicts.append(values == [inside.subs(ALPHA, alpha)] * (size - 1))
            attracts = all(value < 1 for value in values + [outside] * (n - size))
            kinds += [attracts] * int(sp.binomial(n, size))
        verdicts.append(sum(kinds) == stable[0 if above else 1].subs(N, n))
    d.check(
        "The same by the eigenvalues of each matrix.",
        sp.Eq(sp.Symbol("stable"), sp.Piecewise((stable[0], ALPHA > 1), (stable[1], True)), evaluate=False),
        verdicts,
        "n = 2, 3, 4 and alpha = 3, 1/3",
        again=True,
    )


def _collapse(d: Derivation, rate: sp.Expr) -> None:
    a, others = sp.symbols("A m", positive=True)
    d.limit("For alpha = 1 + a the exponent alpha^k grows without bound.", (1 + EXCESS) ** DEPTH, DEPTH, sp.oo, sp.oo)
    d.equal(
        "The odds against a single mode are the sum of exp(-A g_j) over the m others, A = alpha^k: at least the "
        "largest, exp(-A g), and at most m times that. So their log over A is at least -g and at most this.",
        sp.expand_log(sp.log(others * sp.exp(-a * GAP))) / a,
        sp.log(others) / a - GAP,
        shown=sp.log(others * sp.exp(-a * GAP)) / a,
        scope=ANY_N,
    )
    d.limit(
        "Both bounds have this limit: log(1 - pi_mode) falls like alpha^k, the residual doubly exponentially in k.",
        sp.log(others) / a - GAP,
        a,
        sp.oo,
        rate,
        scope=ANY_N,
    )


def _map_numbers(d: Derivation, exponent: sp.Expr, inside: sp.Expr, rate: sp.Expr) -> None:
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
    image = sp.Eq(sp.Symbol("F^k"), sp.Symbol("p") ** exponent / Z, evaluate=False)
    drawn = "8 random policies"
    d.confirm("Applying F again and again, in 60 digits, gives the power.", image, orbits, 1e-13, drawn)
    d.confirm("The package's closed form does, too.", image, package, 1e-12, drawn)
    jacobian = sp.Eq(sp.Symbol("DF v"), inside * sp.Symbol("v"), evaluate=False)
    d.confirm("Differences of F agree with the package's Jacobian and the eigenvalue.", jacobian, slopes, 1e-12, drawn)
    residual = sp.Eq(sp.Limit(sp.Symbol("R_k") / ALPHA**ROUNDS, ROUNDS, sp.oo), rate, evaluate=False)
    d.confirm("The residual's logarithm after 4 to 7 rounds.", residual, speeds, 1e-12, "p = (0.6, 0.4), alpha = 2")
    d.confirm(
        "The package counts the rounds to collapse as applying F until it has collapsed does.",
        sp.Ge(sp.Symbol("pi_mode"), 1 - EPSILON),
        gaps,
        0.0,
        f"{len(gaps)} policies",
    )


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


T11 = Theorem(
    "T11",
    "Self-sharpening",
    "F(pi) = pi^alpha / Z, applied k times, is p^(alpha^k) / Z. For alpha other than 1 its fixed points are the "
    "uniform policies on the 2^n - 1 supports, with eigenvalue alpha inside (|S| - 1 times) and 0 (alpha > 1) or "
    "infinity (alpha < 1) towards lost outcomes. For alpha > 1 the n vertices attract, the uniform policy repels, the"
    " rest are saddles, and the policy collapses doubly exponentially in k; for alpha < 1 only the uniform policy "
    "attracts; for alpha = 1 every policy is fixed.",
    r"F^k(p) = \frac{p^{\alpha^k}}{Z}, \qquad DF|_{\mathrm{unif}(S)} = \alpha\ (|S|-1 \text{ times}), \qquad "
    r"\alpha^{-k} \log(1 - \pi_{\mathrm{mode}}) \to -\log\frac{p_{\mathrm{mode}}}{p_{\mathrm{second}}}",
    self_sharpening,
)
