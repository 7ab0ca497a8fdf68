"""T8: how long the sequences of p^alpha are when tokens are independent."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.proofs.sums import I, P, total
from sharpen.theory.sequences import IidModel

ALPHA, PREFIX, GAIN, OTHER = sp.symbols("alpha w g b", positive=True)
GO, RHO = sp.symbols("q_go rho", positive=True)  # 1 - h, and the continuation ratio
COUNT = sp.Symbol("m", integer=True, positive=True)
RATIO = GO**ALPHA * total(P[I] ** ALPHA)
ENTROPY = -total(P[I] * sp.log(P[I]))
SLOPE = sp.log(GO) - ENTROPY
AVERAGE = RHO / (1 - RHO)
TOKENS = (sp.Rational(40, 100), sp.Rational(25, 100), sp.Rational(15, 100), sp.Rational(12, 100), sp.Rational(8, 100))
HAZARD = sp.Rational(1, 20)
COOLED = sp.Rational(19, 10)
ANY_VOCABULARY = "any number of tokens"


def lengths(
    d: Derivation,
    *,
    ratio: Any = RATIO,
    average: Any = AVERAGE,
    slope: Any = SLOPE,
    cooled: Any = COOLED,
) -> None:
    """Derive the law of the length for independent tokens.

    Args:
        d: Takes the steps.
        ratio: Claimed weight of one more token, in q_go = 1 - h and the token probabilities.
        average: Claimed mean length, in rho.
        slope: Claimed derivative of log rho at alpha = 1.
        cooled: Claimed mean length of the example at alpha = 1.25, to one decimal.
    """
    d.equal(
        "Sharpened sequences follow p^alpha / Z (T1). Under p one more token multiplies a prefix's probability w by "
        "q_go p_i, q_go = 1 - h; summed over tokens it multiplies the weight of all prefixes by rho.",
        total((PREFIX * GO * P[I]) ** ALPHA),
        PREFIX**ALPHA * ratio,
        scope=ANY_VOCABULARY,
    )
    _all_sequences(d, ratio)
    geometric(d, "So length L has the weight rho^L (times c = h^alpha), and the weights up to m - 1 sum to S(m).")
    d.equal(
        "The mean length is the slope of log sum rho^L = -log(1 - rho) in log rho.",
        RHO * sp.diff(-sp.log(1 - RHO), RHO),
        average,
        shown=RHO * sp.Derivative(-sp.log(1 - RHO), RHO),
        scope="rho < 1",
    )
    d.equal(
        "The slope of log rho at alpha = 1 is log(1 - h) less the entropy of the tokens.",
        sp.diff(sp.expand_log(sp.log(ratio)), ALPHA).subs(ALPHA, 1),
        slope,
        given={total(P[I]): sp.Integer(1)},
        shown=sp.Subs(sp.Derivative(sp.log(ratio), ALPHA), ALPHA, 1),
        scope=ANY_VOCABULARY,
    )
    powers = total(P[I] ** ALPHA)
    d.equal(
        "At any alpha it is log(1 - h) plus the mean of log p_i, weighted by p_i^alpha.",
        sp.diff(sp.expand_log(sp.log(ratio)), ALPHA),
        sp.log(GO) + total(P[I] ** ALPHA * sp.log(P[I])) / powers,
        shown=sp.Derivative(sp.log(ratio), ALPHA),
        scope=ANY_VOCABULARY,
    )
    d.has_sign(
        "Both are negative, here with 1 - h = 1 / (1 + b), p_i = 1 / (1 + g) and the weight w: rho falls, and is 1 - h "
        "at alpha = 1, so p^alpha exists exactly above some alpha below 1.",
        -sp.log(1 + OTHER) - PREFIX * sp.log(1 + GAIN),
        "negative",
        scope=ANY_VOCABULARY,
    )
    slope_of_mean = sp.diff((RHO / (1 - RHO)).subs(RHO, ratio), ALPHA).subs(ALPHA, 1)
    d.equal(
        "At alpha = 1, where rho = 1 - h, the mean length falls with alpha at a rate of order 1 / h^2: a knife edge.",
        slope_of_mean,
        GO / (1 - GO) ** 2 * slope,
        given={total(P[I]): sp.Integer(1)},
        shown=sp.Subs(sp.Derivative(average, ALPHA), ALPHA, 1),
        scope=ANY_VOCABULARY,
    )
    _knife_edge(d, cooled)
    _length_numbers(d, ratio, average, slope, cooled)


def _all_sequences(d: Derivation, ratio: Any) -> None:
    """Sum p^alpha over every sequence of a length, with symbols for the token probabilities."""
    pairs = []
    for size, length, alpha in itertools.product((1, 2, 3), (0, 1, 2, 3), (2, 3)):
        q = sp.symbols(f"q_1:{size + 1}", positive=True)
        weights = [sp.Mul(*[GO * x for x in word]) ** alpha for word in itertools.product(q, repeat=length)]
        claimed = ratio.subs(ALPHA, alpha).replace(
            lambda part: isinstance(part, sp.Sum),
            lambda part, q=q: sp.Add(*[part.function.subs(P[I], x) for x in q]),
        )
        pairs.append((sp.Add(*weights), claimed**length))
    shown = sp.Eq(sp.Symbol("weight of length L"), ratio ** sp.Symbol("L"), evaluate=False)
    d.cases("The same sum over every sequence.", shown, pairs, "1 to 3 tokens, lengths 0 to 3, alpha = 2, 3", True)


def geometric(d: Derivation, text: str) -> None:
    """Add the steps that S(m) = c (1 - rho^m) / (1 - rho) solves S(m + 1) = c + rho S(m), and when it converges."""
    first = sp.Symbol("c", positive=True)
    partial = first * (1 - RHO**COUNT) / (1 - RHO)
    d.equal(
        text,
        partial.subs(COUNT, COUNT + 1),
        first + RHO * partial,
        shown=sp.Function("S")(COUNT + 1),
        scope="every m, rho other than 1",
    )
    d.limit("For rho = 1 / (1 + g) < 1 they converge, to c / (1 - rho).",
            sp.simplify(partial.subs(RHO, 1 / (1 + GAIN))), COUNT, sp.oo, first * (1 + GAIN) / GAIN)  # fmt: skip
    d.limit("For rho = 1 they do not.", first * COUNT, COUNT, sp.oo, sp.oo)
    d.limit("Nor for rho = 1 + g: there p^alpha does not exist.", first * ((1 + GAIN) ** COUNT - 1) / GAIN,
            COUNT, sp.oo, sp.oo)  # fmt: skip


def _example_ratio(alpha: sp.Expr) -> sp.Expr:
    return (1 - HAZARD) ** alpha * sum(x**alpha for x in TOKENS)


def _knife_edge(d: Derivation, cooled: Any) -> None:
    """Evaluate the example: h = 0.05 and five tokens."""
    example = "h = 0.05, tokens 0.40, 0.25, 0.15, 0.12, 0.08"
    mean = AVERAGE.subs(RHO, _example_ratio(ALPHA))
    at = sp.Function("mean")
    d.equal("An example at alpha = 1: nineteen tokens.", mean.subs(ALPHA, 1), 19, shown=at(1), scope=example)
    warm = mean.subs(ALPHA, sp.Rational(5, 4))
    near = f"At alpha = 1.25 it is {float(cooled)} to one decimal"
    for side, margin in (
        ("not below", warm - cooled + sp.Rational(1, 20)),
        ("not above", cooled + sp.Rational(1, 20) - warm),
    ):
        visible = (at(sp.Rational(5, 4)) - cooled) * (1 if side == "not below" else -1) + sp.Rational(1, 20)
        d.has_sign(f"{near}: {side}.", margin, "positive", shown=visible, scope=example)
    d.has_sign(
        "At alpha = 0.95 rho exceeds 1: there is no such distribution.",
        _example_ratio(sp.Rational(19, 20)) - 1,
        "positive",
        shown=sp.Function("rho")(sp.Rational(19, 20)) - 1,
        scope=example,
    )


def _length_numbers(d: Derivation, ratio: Any, average: Any, slope: Any, cooled: Any) -> None:
    """Compare the package with sums over lengths, a root and a derivative in mpmath."""
    import mpmath

    means, roots, slopes = [], [], []
    for _ in range(10):
        q, h = d.rng.dirichlet(np.ones(int(d.rng.integers(2, 6)))), float(d.rng.uniform(0.05, 0.5))
        alpha, model = float(d.rng.uniform(1.0, 3.0)), IidModel(q, h)
        rho = _ratio_of(q, h)
        at, total_weight, tokens = rho(alpha), mpmath.mpf(0), mpmath.mpf(0)
        for length in range(2000):  # 0.95^2000 is beyond rounding
            total_weight, tokens = total_weight + at**length, tokens + length * at**length
        claimed, mean = _over_tokens(ratio.subs(ALPHA, alpha), q, h), float(tokens / total_weight)
        means += [model.mean_length(alpha) / mean - 1, claimed / float(at) - 1]
        means.append(float(average.subs(RHO, claimed)) / mean - 1)
        slopes.append(float(mpmath.diff(lambda a, rho=rho: mpmath.log(rho(a)), 1)) - _over_tokens(slope, q, h))
        slopes.append(model.slope - _over_tokens(slope, q, h))
        found = mpmath.findroot(lambda a, rho=rho: rho(a) - 1, (0.5, 1.0), solver="anderson", tol=1e-14)
        roots.append(float(found) - (model.critical_alpha or 0.0))
    example = IidModel([float(x) for x in TOKENS], float(HAZARD))
    numbers = [example.mean_length(1.0) - 19, (round(example.mean_length(1.25), 1) - float(cooled))]
    drawn = "10 random models"
    d.confirm("Sums over lengths have the package's mean.", sp.Eq(sp.Symbol("E[L]"), average), means, 1e-9, drawn)
    derivative_at_one = sp.Eq(sp.Symbol("slope"), slope, evaluate=False)
    d.confirm("Numerical derivatives and the package's slope agree.", derivative_at_one, slopes, 1e-9, drawn)
    d.confirm("A root of rho = 1 is the package's critical alpha.", sp.Eq(RHO, 1), roots, 1e-9, drawn)
    shown = sp.Eq(sp.Function("mean")(sp.Rational(5, 4)), cooled, evaluate=False)
    d.confirm("The package's means of the example.", shown, numbers, 1e-9, "example")


def _ratio_of(q: np.ndarray, h: float) -> Callable[[Any], Any]:
    """Return rho as a function of alpha, in mpmath."""
    import mpmath

    return lambda alpha: mpmath.fsum(((1 - mpmath.mpf(h)) * mpmath.mpf(float(x))) ** alpha for x in q)


def _over_tokens(expression: Any, q: np.ndarray, h: float) -> float:
    """Evaluate an expression with sums over the tokens."""
    written = expression.replace(
        lambda part: isinstance(part, sp.Sum),
        lambda part: sp.Add(*[part.function.subs(P[I], float(x)) for x in q]),
    )
    return float(written.subs(GO, 1 - h))


T8 = Theorem(
    "T8",
    "Length of independent tokens",
    "With tokens q and stop hazard h the length under p^alpha is geometric with continuation ratio rho = (1 - h)^alpha "
    "sum_v q_v^alpha and mean rho / (1 - rho); p^alpha exists exactly where rho < 1. d log rho / d alpha at 1 is "
    "log(1 - h) - H(q), so alpha = 1 is a knife edge: with h = 0.05 and five tokens a mean of 19 tokens becomes 1.9 at "
    "alpha = 1.25, and at alpha = 0.95 there is no such distribution.",
    r"\rho(\alpha) = (1 - h)^\alpha \sum_v q_v^\alpha, \quad E[L] = \frac{\rho}{1 - \rho}, \quad "
    r"\frac{d \log \rho}{d\alpha}\Big|_{1} = \log(1 - h) - H(q)",
    lengths,
)
