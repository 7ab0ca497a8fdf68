"""T6: what k samples of an optimum contain, on one prompt and on a mix."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import preset
from sharpen.theory.coverage import crossover, pass_at_k
from sharpen.theory.majority import winner_probabilities
from sharpen.theory.optimum import optimum
from sharpen.theory.problem import Problem
from sharpen.theory.proofs.answers import ALPHA, AN_EXAMPLE, GAIN, winners
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, I, total

BETA_INV, SUCCESS = sp.symbols("beta_inv a", positive=True)
SAMPLES, VOTES = sp.symbols("N k", integer=True, positive=True)
RIGHT, TIED = sp.symbols("c t", integer=True, nonnegative=True)
KEPT = sp.binomial(SAMPLES - RIGHT, VOTES) / sp.binomial(SAMPLES, VOTES)


def samples(
    d: Derivation,
    *,
    failure: Any = (1 - SUCCESS) ** VOTES,
    kept: Any = KEPT,
    tie: Any = 1 / (1 + TIED),
    crossing: int = 3,
) -> None:
    """Derive pass@k and maj@k.

    Args:
        d: Takes the steps.
        failure: Claimed probability that none of k samples is right.
        kept: Claimed estimator of it from c right ones of N samples.
        tie: Claimed part of a vote for a winner that t others tie with.
        crossing: Claimed k at which the base overtakes the sharpened policy of the example.
    """
    right, wrong = sp.symbols("S_r S_w", positive=True)
    accuracy = right * sp.exp(BETA_INV) / (right * sp.exp(BETA_INV) + wrong)
    d.equal(
        "The optimum p^alpha exp(beta_inv r) / Z (T1) multiplies the weight S_r of the right outcomes, the sum of "
        "p^alpha = exp(alpha ell) over them, by exp(beta_inv), and leaves that of the wrong ones, S_w.",
        total(sp.exp(ALPHA * LOG_P[I] + BETA_INV)),
        sp.exp(BETA_INV) * total(sp.exp(ALPHA * LOG_P[I])),
        scope=ANY_N,
    )
    d.equal(
        "One sample is right with the probability a.",
        1 - failure.subs(VOTES, 1),
        SUCCESS,
        shown=sp.Subs(1 - failure, VOTES, 1),
    )
    d.equal(
        "Sample k + 1 is what a failure so far has to fail again: by induction pass@k = 1 - (1 - a)^k.",
        failure.subs(VOTES, VOTES + 1),
        failure * (1 - SUCCESS),
        scope="every k",
    )
    d.equal(
        "With a = S_r exp(beta_inv) / (S_r exp(beta_inv) + S_w), pass@k of the optimum in closed form.",
        1 - failure.subs(SUCCESS, accuracy),
        1 - (wrong / (right * sp.exp(BETA_INV) + wrong)) ** VOTES,
        shown=sp.Subs(1 - failure, SUCCESS, accuracy),
        scope="every k",
    )
    _estimator(d, kept, failure)
    _votes(d, tie)
    _mixes(d, failure, crossing)
    _sample_numbers(d, failure, kept, crossing)


def _estimator(d: Derivation, kept: Any, failure: Any) -> None:
    """Prove the estimator from N samples unbiased for every N, k and a."""
    d.equal(
        "The estimate C(N - c, k) / C(N, k) is the share of k-subsets of N samples with none of the c right ones. "
        "Times the C(N, c) ways in which c can be right it is C(N - k, c): their ratio.",
        sp.combsimp(sp.binomial(SAMPLES, RIGHT) * kept / sp.binomial(SAMPLES - VOTES, RIGHT)),
        1,
        shown=sp.binomial(SAMPLES, RIGHT) * kept / sp.binomial(SAMPLES - VOTES, RIGHT),
        scope="every N >= k and c <= N - k; beyond that both are zero",
    )
    rest = sp.Symbol("m", integer=True, nonnegative=True)
    term = sp.binomial(rest, RIGHT) * (1 + GAIN) ** (-RIGHT)
    d.equal(
        "So its mean is (1 - a)^k times the binomial sum of m = N - k, which is (a + 1 - a)^m = 1. That sum over the "
        "larger of a and 1 - a to the m, with 1 / (1 + g) for their ratio (in the other order c and m - c swap).",
        sp.summation(term, (RIGHT, 0, rest)),
        (1 + 1 / (1 + GAIN)) ** rest,
        shown=sp.Sum(term, (RIGHT, 0, rest)),
        scope="every m",
    )
    pairs = []
    for n in range(1, 9):
        for k in range(1, n + 1):
            chance = sum(
                math.comb(n, c) * SUCCESS**c * (1 - SUCCESS) ** (n - c) * kept.subs({SAMPLES: n, RIGHT: c, VOTES: k})
                for c in range(n + 1)
            )
            pairs.append((chance, failure.subs(VOTES, k)))
    shown = sp.Eq(sp.Symbol("E[1 - pass]"), failure, evaluate=False)
    verdicts = [sp.Poly(left - right, SUCCESS).is_zero for left, right in pairs]
    d.check(
        "1 - C(N - c, k) / C(N, k) is unbiased: its mean is pass@k as a polynomial.", shown, verdicts, "N <= 8", True
    )
    plug_in: Any = sum(
        math.comb(2, c) * SUCCESS**c * (1 - SUCCESS) ** (2 - c) * (1 - sp.Rational(c, 2)) ** 2 for c in range(3)
    )
    bias: Any = sp.factor((plug_in - (1 - SUCCESS) ** 2).subs(SUCCESS, 1 / (1 + GAIN)))
    d.has_sign(
        "The plug-in 1 - (1 - c/N)^k is not, and reports too little: at N = k = 2 this much (a = 1 / (1 + g)).",
        bias,
        "positive",
        scope=AN_EXAMPLE,
    )


def _votes(d: Derivation, tie: Any) -> None:
    """Compare the generating function of votes with every sample of k."""
    level = sp.Symbol("y", positive=True)
    d.equal(
        "A winner with t others as good gets the part 1 / (t + 1), which is the mean of y^t over 0 < y < 1.",
        sp.integrate(level**TIED, (level, 0, 1)),
        tie,
        shown=sp.Integral(level**TIED, (level, 0, 1)),
        scope="every t",
    )
    pairs = []
    for answers, none in ((2, False), (2, True), (3, False), (3, True)):
        q = list(sp.symbols(f"q_1:{answers + 1}"))
        for k in range(1, 5):
            pairs += zip(_all_samples(q, none, k), _generating(q, none, k, tie), strict=True)
    total_q = sp.Symbol("x")
    shown = sp.Function("maj@k")(
        sp.Integral(
            sp.Function("prod")(sp.Function("f_<c")(total_q) + level * sp.Function("f_c")(total_q)), (level, 0, 1)
        )
    )
    d.cases(
        "maj@k of answer a is k! [x^k] exp(q_0 x) sum_c (q_a x)^c / c! times the mean over y of the product, over the "
        "other answers j, of f_<c + y f_c: the first c terms of exp(q_j x) and y times the next (q_0: samples without "
        "answer). Against every ordered sample of k, as polynomials in q.",
        shown,
        pairs,
        "2 and 3 answers, with and without q_0, k = 1..4",
    )


def _all_samples(q: list[sp.Symbol], none: bool, k: int) -> list[Any]:
    p = [*q, sp.Symbol("q_0")] if none else q
    labels = [*range(len(q)), -1]
    wins: list[Any] = [sp.Integer(0)] * len(q)
    for sample in itertools.product(range(len(p)), repeat=k):
        for answer, part in winners([labels[i] for i in sample]).items():
            wins[answer] += sp.Rational(part.numerator, part.denominator) * sp.Mul(*[p[i] for i in sample])
    return wins


def _generating(q: list[sp.Symbol], none: bool, k: int, tie: Any) -> list[sp.Expr]:
    x, y = sp.symbols("x y")
    zero = sp.Symbol("q_0") if none else sp.Integer(0)
    series = sum((zero * x) ** i / math.factorial(i) for i in range(k + 1))
    wins = []
    for a, own in enumerate(q):
        coefficient = sp.Integer(0)
        for c in range(1, k + 1):
            below = [sum((z * x) ** i / sp.factorial(i) for i in range(c)) for z in q]
            others = [
                b + y * (z * x) ** c / math.factorial(c)
                for j, (b, z) in enumerate(zip(below, q, strict=True))
                if j != a
            ]
            body = sp.Poly(sp.Mul(series, (own * x) ** c / math.factorial(c), *others), x, y)
            coefficient += sum(value * tie.subs(TIED, t) for (i, t), value in body.terms() if i == k)
        wins.append(math.factorial(k) * coefficient)
    return wins


def _mixes(d: Derivation, failure: Any, crossing: int) -> None:
    """Derive the limit of a mix of prompts and where the base overtakes."""
    d.limit(
        "pass@k of a mix is a mean over its prompts. As k grows every prompt with a > 0 is solved (a = g / (1 + g)), "
        "the others never: the limit is the share of prompts with a > 0.",
        sp.simplify(failure.subs(SUCCESS, GAIN / (1 + GAIN))),
        VOTES,
        sp.oo,
        0,
        scope="0 < a < 1",
    )
    d.equal(
        "p^alpha exp(beta_inv r) is positive where p is and keeps that limit; the mode alone has a in {0, 1} and keeps "
        "only the prompts whose mode is right.",
        sp.Matrix([failure.subs(SUCCESS, 0), failure.subs(SUCCESS, 1)]),
        sp.Matrix([1, 0]),
        shown=sp.Matrix([sp.Subs(failure, SUCCESS, 0), sp.Subs(failure, SUCCESS, 1)]),
        scope="every k",
    )
    d.has_sign(
        "On one prompt failures b > o keep their order, b = (1 + g) o: log(b^k / o^k) has one sign, no crossing.",
        VOTES * sp.log(1 + GAIN),
        "positive",
        scope="every k",
    )
    weights = sp.symbols("w_1:5", positive=True)
    slower = sp.symbols("g_1:4", positive=True)
    ratio = weights[0] * (1 + slower[0]) ** (-VOTES) + weights[1] * (1 + slower[1]) ** (-VOTES)
    ratio += -weights[2] * (1 + slower[2]) ** (-VOTES) - weights[3]
    d.limit(
        "On two prompts with failures b (base) and o (other policy), let one o be the largest of the four, 1 + g_i "
        "times the rest. The base's failure less the other's, over the largest^k, tends to minus its weight: however "
        "far behind at k = 1, the base overtakes. More prompts add more terms of these kinds.",
        ratio,
        VOTES,
        sp.oo,
        -weights[3],
    )
    _crosses(d, crossing)


def _crosses(d: Derivation, crossing: int) -> None:
    """Follow two prompts, sharpened at alpha = 2: on one the right outcome is likeliest, on the other rarest."""
    base, other = _example_failures()
    gaps = [sum(b**k for b in base) - sum(o**k for o in other) for k in range(1, crossing + 2)]
    d.check(
        "Two prompts, p = (4, 2, 2, 2)/10 and (1, 3, 3, 3)/10 with the first outcome right, at alpha = 2: sharpening "
        "leads before this k and trails from it on.",
        sp.Eq(VOTES, crossing, evaluate=False),
        [gap > 0 for gap in gaps[: crossing - 1]] + [gap < 0 for gap in gaps[crossing - 1 :]],
        "exact fractions",
    )
    odds = [
        sp.Rational(b.numerator, b.denominator) / sp.Rational(other[1].numerator, other[1].denominator) for b in base
    ]
    start = crossing + 1
    d.has_sign(
        "It stays behind: the base's failures over the sharpened policy's largest, to the k, add up to less than one "
        "here.",
        1 - sp.Add(*[x**start for x in odds]),
        "positive",
        shown=1 - sp.Add(*[sp.Pow(x, start, evaluate=False) for x in odds], evaluate=False),
        scope=AN_EXAMPLE,
    )
    d.has_sign("And they fall in k: the larger of them.", sp.log(max(odds)), "negative", scope=AN_EXAMPLE)


def _example_failures() -> tuple[list[Fraction], list[Fraction]]:
    base, other = [], []
    for weights in ((4, 2, 2, 2), (1, 3, 3, 3)):
        base.append(1 - Fraction(weights[0], sum(weights)))
        other.append(1 - Fraction(weights[0] ** 2, sum(x**2 for x in weights)))
    return base, other


def _sample_numbers(d: Derivation, failure: Any, kept: Any, crossing: int) -> None:
    """Compare with SciPy's distributions, simulated votes and an exact scan."""
    from scipy.stats import binom, hypergeom

    passed, unbiased, votes, crossings = [], [], [], []
    claim, estimate = (
        sp.lambdify((SUCCESS, VOTES), failure),
        sp.lambdify((SAMPLES, RIGHT, VOTES), kept, ["math", {"binomial": math.comb}]),
    )
    for _ in range(20):
        n, k = int(d.rng.integers(2, 7)), int(d.rng.integers(1, 40))
        r = np.append([1.0, 0.0], d.rng.integers(0, 2, n - 2))
        problem = Problem(d.rng.dirichlet(np.ones(n)), r)
        best = optimum(
            preset("tilted", alpha=float(d.rng.uniform(0.5, 3)), beta_inv=float(d.rng.uniform(0, 3))), problem
        )
        passed.append(float(pass_at_k(best.expected_reward, k)) - (1 - binom.pmf(0, k, best.probabilities @ r)))
        passed.append(claim(best.expected_reward, k) - binom.pmf(0, k, best.probabilities @ r))
        size = k + int(d.rng.integers(0, 20))
        c = np.arange(size + 1)
        a = float(d.rng.uniform(0, 1))
        unbiased.append(binom.pmf(c, size, a) @ [float(estimate(size, int(x), k)) for x in c] - binom.pmf(0, k, a))
        unbiased += [float(estimate(size, int(x), k)) - hypergeom.pmf(0, size, int(x), k) for x in c]
        votes += _vote_errors(d, 1 + k % 14)
        q, o = (d.rng.integers(1, 20, 3) for _ in range(2))
        scan = (k for k in range(1, 400) if sum((40 - int(x)) ** k for x in q) < sum((40 - int(x)) ** k for x in o))
        crossings.append(float((crossover(q / 40, o / 40, k_max=399) or 0) != next(scan, 0)))
    base, other = _example_failures()
    found = crossover([float(1 - x) for x in base], [float(1 - x) for x in other])
    drawn = "20 random problems"
    shown = sp.Eq(sp.Symbol("pass@k"), 1 - failure, evaluate=False)
    d.confirm("pass@k of the package's optima is SciPy's binomial.", shown, passed, 1e-12, drawn)
    d.confirm("The estimator is SciPy's hypergeometric, and unbiased.", 1 - kept, unbiased, 1e-11, drawn)
    vote = sp.Symbol("maj@k")
    d.confirm("The package's maj@k is a sum over SciPy's multinomial.", vote, votes, 1e-12, drawn + ", k < 15")
    equation = sp.Eq(VOTES, crossing, evaluate=False)
    d.confirm("The package's crossing is that of a scan in whole numbers.", equation, crossings, 0.0, drawn)
    d.confirm("And that of the example.", equation, [(found or 0) - crossing], 0.0, "example")


def _vote_errors(d: Derivation, k: int) -> list[float]:
    """Return how far the package's votes are from sums over all counts of three answers and no answer."""
    from scipy.stats import multinomial

    q = d.rng.dirichlet(np.ones(4))
    counts = np.array([c for c in itertools.product(range(k + 1), repeat=3) if sum(c) <= k])
    chance = multinomial.pmf(np.column_stack([counts, k - counts.sum(axis=1)]), k, q)
    best = counts.max(axis=1, keepdims=True)
    wins = (counts == best) & (best > 0)
    return list(winner_probabilities(q[:3], k) - chance @ (wins / np.maximum(1, wins.sum(axis=1, keepdims=True))))


T6 = Theorem(
    "T6",
    "Coverage of the optimum",
    "With a = S_r exp(beta_inv) / (S_r exp(beta_inv) + S_w), S the sums of p^alpha over right and wrong outcomes, "
    "pass@k of the optimum is 1 - (1 - a)^k, estimated without bias by 1 - C(N - c, k) / C(N, k) from c right ones of"
    " N samples. maj@k with ties shared is a coefficient of a generating function. Over a mix pass@k tends to the "
    "share of prompts with a > 0; of two policies the one with the largest failure on a prompt where they differ is "
    "overtaken.",
    r"\mathrm{pass@}k = 1 - (1 - a)^k, \quad E\Big[1 - \tbinom{N - c}{k} / \tbinom{N}{k}\Big] = \mathrm{pass@}k, \quad "
    r"\mathrm{maj@}k(a) = k!\,[x^k]\, e^{q_0 x} \sum_c \frac{(q_a x)^c}{c!} \int_0^1 \prod_{j \ne a} \Big(\sum_{i < c} "
    r"\frac{(q_j x)^i}{i!} + y \frac{(q_j x)^c}{c!}\Big) dy",
    samples,
)
