"""T6: what samples of the optimum cover: pass@k, maj@k, mixes of prompts, and where the base overtakes."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import preset
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.coverage import crossover, pass_at_k
from sharpen.theory.optima.majority import winner_probabilities
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.proofs.notation import Short, by_sign, runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import AN_EXAMPLE, ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, I, total
from sharpen.theory.proofs.theorems.answers import ALPHA, GAIN, winners

BETA_INV, SUCCESS = sp.symbols("beta_inv a", positive=True)
SAMPLES, VOTES = sp.symbols("N k", integer=True, positive=True)
RIGHT, TIED = sp.symbols("c t", integer=True, nonnegative=True)
KEPT = sp.binomial(SAMPLES - RIGHT, VOTES) / sp.binomial(SAMPLES, VOTES)
LEVEL = sp.Symbol("y", positive=True)
BELOW, AT = sp.symbols("f_<c f_c")  # of another answer's exponential series: the terms below c votes, and that of c
FACTOR = BELOW + LEVEL * AT
EVERY_K = say("every {}", VOTES)
PAIR = ((4, 2, 2, 2), (1, 3, 3, 3))  # the prompts of the example, in parts of ten, the right outcome first


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
    accuracy = Short("E[r]", right * sp.exp(BETA_INV) / (right * sp.exp(BETA_INV) + wrong))
    tilted = d.equal(
        say("The optimum (T1) multiplies the weight {} of the right outcomes, a sum of powers, by {}, and leaves that "
            "of the wrong ones, {}: one sample is right with {}.", right, sp.exp(BETA_INV), wrong, accuracy),
        total(sp.exp(ALPHA * LOG_P[I] + BETA_INV)),
        sp.exp(BETA_INV) * total(sp.exp(ALPHA * LOG_P[I])),
        scope=ANY_N,
    )  # fmt: skip
    passed = Short("pass@k", 1 - failure)
    d.equal(
        say("One sample is right with the probability {}.", SUCCESS),
        sp.Subs(passed, VOTES, 1),
        SUCCESS,
    )
    d.equal(
        say("One sample more is what a failure so far has to fail again: by induction this is the failure of any "
            "number {} of samples.", VOTES),
        failure.subs(VOTES, VOTES + 1),
        failure * (1 - SUCCESS),
        scope=EVERY_K,
    )  # fmt: skip
    closed = d.equal(
        say("Of the optimum, in closed form."),
        sp.Subs(passed, SUCCESS, accuracy),
        1 - (wrong / (right * sp.exp(BETA_INV) + wrong)) ** VOTES,
        scope=EVERY_K,
    )
    unbiased, plug_in = _estimator(d, kept, failure)
    shared = _votes(d, tie)
    solved, example, later = _mixes(d, failure, crossing)
    _sample_numbers(d, failure, kept, passed, unbiased, example)
    d.state(
        "The optimum tilts the power towards right outcomes, {}. With the weights {} and {} of right and wrong ones "
        "under the power, {}, and of the optimum {}. From {} right ones of {} samples the share of failing subsets has "
        "the mean {}, while the plug-in reports too {}. A tie is shared in parts {}, and maj@k is a coefficient of a "
        "generating function. Over a mix a prompt that can be solved will be, {}; of two policies the one with the "
        "worst failure on a prompt where they differ is overtaken, {}, in an example from {} on.",
        tilted, right, wrong, passed.definition, closed, RIGHT, SAMPLES, unbiased, plug_in, shared, solved, later,
        example,
    )  # fmt: skip


def _estimator(d: Derivation, kept: Any, failure: Any) -> tuple[Any, Any]:
    """Prove the estimator from N samples unbiased for every N, k and a; return its mean and how the plug-in errs."""
    ways = sp.binomial(SAMPLES, RIGHT) * kept / sp.binomial(SAMPLES - VOTES, RIGHT)
    d.equal(
        say("The share {} of the subsets of {} samples with none of the {} right ones. With the number of ways in "
            "which these can be right it is the number of ways in the others: their ratio.",
            kept, SAMPLES, RIGHT),
        ways,
        1,
        by=sp.combsimp(ways),
        scope=say("every possible {}, {} and {}; beyond these both are zero", SAMPLES, VOTES, RIGHT),
    )  # fmt: skip
    rest = sp.Symbol("m", integer=True, nonnegative=True)
    term = sp.binomial(rest, RIGHT) * (1 + GAIN) ** (-RIGHT)
    d.equal(
        say("So its mean is the failure by the binomial theorem for the {} samples outside the subset, here over a "
            "power of the likelier of right and wrong.", rest),
        sp.Sum(term, (RIGHT, 0, rest)),
        (1 + 1 / (1 + GAIN)) ** rest,
        by=sp.summation(term, (RIGHT, 0, rest)),
        scope=say("every {}", rest),
    )  # fmt: skip
    pairs = []
    for n in range(1, 9):
        for k in range(1, n + 1):
            chance = sum(
                math.comb(n, c) * SUCCESS**c * (1 - SUCCESS) ** (n - c) * kept.subs({SAMPLES: n, RIGHT: c, VOTES: k})
                for c in range(n + 1)
            )
            pairs.append((chance, failure.subs(VOTES, k)))
    unbiased = sp.Eq(sp.Function("E")(kept), failure, evaluate=False)
    verdicts = [sp.Poly(left - right, SUCCESS).is_zero for left, right in pairs]
    words = say("Its mean again, as a polynomial.")
    d.check(words, unbiased, verdicts, say("{}", runs(SAMPLES, range(1, 9))), again=True)
    plug_in: Any = sum(
        math.comb(2, c) * SUCCESS**c * (1 - SUCCESS) ** (2 - c) * (1 - sp.Rational(c, 2)) ** 2 for c in range(3)
    )
    put = {SUCCESS: 1 / (1 + GAIN)}
    bias: Any = sp.factor((plug_in - (1 - SUCCESS) ** 2).subs(put))
    reports = by_sign(bias, "little", "much")
    d.has_sign(
        say("The plug-in of the share of wrong samples is off by this much in the failure of two from two, and reports"
            " too {}.", reports),
        Short("bias", plug_in - failure.subs(VOTES, 2)),
        "positive",
        by=bias,
        where=put,
        scope=AN_EXAMPLE,
    )  # fmt: skip
    return unbiased, reports


def _votes(d: Derivation, tie: Any) -> Any:
    """Compare the generating function of votes with every sample of k; return the equation of a shared tie."""
    shared = d.equal(
        say("What a winner gets that {} others tie with, which is a mean over {} between zero and one.", TIED, LEVEL),
        sp.Integral(LEVEL**TIED, (LEVEL, 0, 1)),
        tie,
        scope=say("every {}", TIED),
    )
    pairs = []
    answers, upto = runs(sp.Symbol("answers"), (2, 3)), runs(VOTES, (1, 2, 3, 4))
    for number, none in itertools.product(answers, (False, True)):
        q = list(sp.symbols(f"q_1:{number + 1}"))
        for k in upto:
            pairs += zip(_all_samples(q, none, k), _generating(q, none, k, tie), strict=True)
    x = sp.Symbol("x")
    d.cases(
        say("maj@k of an answer that gets {} of {} votes: the mean over {} of a product over the other answers of "
            "{}, the terms of their exponential series with less votes and {} of those with as many; with the answer's"
            " own term and the series of samples without answer, the coefficient of {}. Against every ordered sample, "
            "as polynomials.",
            RIGHT, VOTES, LEVEL, FACTOR, LEVEL, x),
        sp.Function("maj@k")(sp.Integral(sp.Function("prod")(FACTOR), (LEVEL, 0, 1))),
        pairs,
        say("{}, with and without samples that have none, {}", answers, upto),
    )  # fmt: skip
    return shared


def _all_samples(q: list[sp.Symbol], none: bool, k: int) -> list[Any]:
    p = [*q, sp.Symbol("q_0")] if none else q
    labels = [*range(len(q)), -1]
    wins: list[Any] = [sp.Integer(0)] * len(q)
    for sample in itertools.product(range(len(p)), repeat=k):
        for answer, part in winners([labels[i] for i in sample]).items():
            wins[answer] += sp.Rational(part.numerator, part.denominator) * sp.Mul(*[p[i] for i in sample])
    return wins


def _generating(q: list[sp.Symbol], none: bool, k: int, tie: Any) -> list[sp.Expr]:
    x = sp.Symbol("x")
    zero = sp.Symbol("q_0") if none else sp.Integer(0)
    series = sum((zero * x) ** i / math.factorial(i) for i in range(k + 1))
    wins = []
    for a, own in enumerate(q):
        coefficient = sp.Integer(0)
        for c in range(1, k + 1):
            below = [sum((z * x) ** i / sp.factorial(i) for i in range(c)) for z in q]
            others = [
                FACTOR.subs({BELOW: b, AT: (z * x) ** c / math.factorial(c)})
                for j, (b, z) in enumerate(zip(below, q, strict=True))
                if j != a
            ]
            body = sp.Poly(sp.Mul(series, (own * x) ** c / math.factorial(c), *others), x, LEVEL)
            coefficient += sum(value * tie.subs(TIED, t) for (i, t), value in body.terms() if i == k)
        wins.append(math.factorial(k) * coefficient)
    return wins


def _mixes(d: Derivation, failure: Any, crossing: int) -> tuple[Any, Any, Any]:
    """Derive the limit of a mix of prompts and where the base overtakes; return their equations."""
    put = {SUCCESS: GAIN / (1 + GAIN)}
    solved = d.limit(
        say("pass@k of a mix is a mean over its prompts, and a prompt is solved in the end wherever {} is not zero.",
            SUCCESS),
        failure,
        VOTES,
        sp.oo,
        0,
        where=put,
        scope=say("every {} between zero and one", SUCCESS),
    )  # fmt: skip
    d.equal(
        say("The optimum with entropy gives a chance wherever the reference does and keeps that limit; the mode alone "
            "is right for sure or not at all, and keeps only the prompts whose mode is right."),
        sp.Matrix([sp.Subs(failure, SUCCESS, 0), sp.Subs(failure, SUCCESS, 1)]),
        sp.Matrix([1, 0]),
        scope=EVERY_K,
    )  # fmt: skip
    d.has_sign(
        say("On one prompt a failure that is {} of another keeps this order: their log-ratio has one sign, there is no "
            "crossing.", 1 + GAIN),
        sp.log((1 + GAIN) ** VOTES),
        "positive",
        by=VOTES * sp.log(1 + GAIN),
        scope=EVERY_K,
    )  # fmt: skip
    weights = sp.symbols("w_1:5", positive=True)
    slower = sp.symbols("g_1:4", positive=True)
    ratio = weights[0] * (1 + slower[0]) ** (-VOTES) + weights[1] * (1 + slower[1]) ** (-VOTES)
    ratio += -weights[2] * (1 + slower[2]) ** (-VOTES) - weights[3]
    later = d.limit(
        say("Two prompts, two failures each, and one of the other policy's is the worst of the four: the base's failure"
            " without the other's, over a power of the worst, has this limit: however it starts, the base is {} in the "
            "end. More prompts add more terms of these kinds.", by_sign(-weights[3], "better", "worse")),
        ratio,
        VOTES,
        sp.oo,
        -weights[3],
    )  # fmt: skip
    return solved, _crosses(d, crossing), later


def _crosses(d: Derivation, crossing: int) -> Any:
    """Follow two prompts, sharpened at alpha = 2: on one the right outcome is likeliest, on the other rarest."""
    base, other = _example_failures()
    gaps = [sum(b**k for b in base) - sum(o**k for o in other) for k in range(1, crossing + 2)]
    example = d.check(
        say("Two prompts, {} and {} with the first outcome right, at {}: before this {} sharpening {}, from "
            "it on it {}.", *(runs(10 * sp.Symbol("p"), weights) for weights in PAIR), runs(ALPHA, [2]), VOTES,
            *(by_sign(sp.Rational(str(gaps[k])), "leads", "trails") for k in (0, crossing - 1))),
        sp.Eq(VOTES, crossing, evaluate=False),
        [gap > 0 for gap in gaps[: crossing - 1]] + [gap < 0 for gap in gaps[crossing - 1 :]],
        say("exact fractions"),
    )  # fmt: skip
    odds = [
        sp.Rational(b.numerator, b.denominator) / sp.Rational(other[1].numerator, other[1].denominator) for b in base
    ]
    start = crossing + 1
    d.compare(
        say("It stays so: the base's failures over the sharpened policy's worst, to this power, add up to less than "
            "one."),
        sp.Add(*[sp.Pow(x, start, evaluate=False) for x in odds], evaluate=False),
        "negative",
        1,
        scope=AN_EXAMPLE,
    )  # fmt: skip
    d.has_sign(
        say("And they {} with more samples, here the worst of them.",
            by_sign(sp.log(max(odds)), "go down", "go up")),
        sp.log(max(odds)),
        "negative",
        scope=AN_EXAMPLE,
    )  # fmt: skip
    return example


def _example_failures() -> tuple[list[Fraction], list[Fraction]]:
    base, other = [], []
    for weights in PAIR:
        base.append(1 - Fraction(weights[0], sum(weights)))
        other.append(1 - Fraction(weights[0] ** 2, sum(x**2 for x in weights)))
    return base, other


def _sample_numbers(d: Derivation, failure: Any, kept: Any, passing: Short, mean: Any, equation: Any) -> None:
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
    drawn = say("{} random problems", 20)
    words = say("pass@k of the package's optima is SciPy's binomial.")
    d.confirm(words, passing.definition, passed, 1e-12, drawn)
    d.confirm(say("The estimator is SciPy's hypergeometric, with this mean."), mean, unbiased, 1e-11, drawn)
    words = say("The package's maj@k is a sum over SciPy's multinomial.")
    d.confirm(words, sp.Symbol("maj@k"), votes, 1e-12, say("{}, up to {} votes", drawn, 14))
    words = say("The package's crossing is that of a scan in whole numbers.")
    d.confirm(words, sp.Symbol("k"), crossings, 0.0, drawn)
    d.confirm(say("And that of the example."), equation, [(found or 0) - int(equation.rhs)], 0.0, say("example"))


def _vote_errors(d: Derivation, k: int) -> list[float]:
    """Return how far the package's votes are from sums over all counts of three answers and no answer."""
    from scipy.stats import multinomial

    q = d.rng.dirichlet(np.ones(4))
    counts = np.array([c for c in itertools.product(range(k + 1), repeat=3) if sum(c) <= k])
    chance = multinomial.pmf(np.column_stack([counts, k - counts.sum(axis=1)]), k, q)
    best = counts.max(axis=1, keepdims=True)
    wins = (counts == best) & (best > 0)
    return list(winner_probabilities(q[:3], k) - chance @ (wins / np.maximum(1, wins.sum(axis=1, keepdims=True))))


T6 = Theorem("T6", "Coverage of the optimum", samples)
