"""T8: how long the sequences of p^alpha are when tokens are independent."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, evaluate, runs
from sharpen.theory.proofs.prose import Text, say
from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.proofs.sums import I, P, total
from sharpen.theory.sequences import IidModel

ALPHA, PREFIX, GAIN, OTHER = sp.symbols("alpha w g b", positive=True)
GO, RHO = sp.symbols("q_go rho", positive=True)  # 1 - h, and the continuation ratio
COUNT = sp.Symbol("m", integer=True, positive=True)
FIRST = sp.Symbol("c", positive=True)  # the weight of length 0
RATIO = GO**ALPHA * total(P[I] ** ALPHA)
ENTROPY = Short("H(p)", -total(P[I] * sp.log(P[I])))
SLOPE = sp.log(GO) - ENTROPY
AVERAGE = RHO / (1 - RHO)
TOKENS = (sp.Rational(40, 100), sp.Rational(25, 100), sp.Rational(15, 100), sp.Rational(12, 100), sp.Rational(8, 100))
HAZARD = sp.Rational(1, 20)
COOLED = sp.Rational(19, 10)
ANY_VOCABULARY = say("any number of tokens")
STOP = sp.Symbol("h")
SIZES, LENGTHS, POWERS = (runs(sp.Symbol(x), y) for x, y in (("n", (1, 2, 3)), ("L", range(4)), ("alpha", (2, 3))))
EXISTS = ("exists", "does not exist")  # by rho - 1


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
    rho = Short("rho", ratio)
    d.equal(
        say("Under the reference a token {} gives a prefix of probability {} another factor, with {} for the chance of "
            "going on. In powers (T1) and over all tokens it is the ratio {}.", P[I], PREFIX, GO, rho),
        total((PREFIX * GO * P[I]) ** ALPHA),
        PREFIX**ALPHA * rho,
        scope=ANY_VOCABULARY,
    )  # fmt: skip
    _all_sequences(d, ratio)
    exists = geometric(d, say("So the weights of the lengths are powers of the ratio, up to the first one's {}, and "
                              "these are the sums of all lengths below {}.", FIRST, COUNT))  # fmt: skip
    mean = d.equal(
        say("The mean length is the slope of the logarithm of the sum of all weights in that of the ratio {}.", RHO),
        Short("E[L]", RHO * sp.Derivative(-sp.log(1 - RHO), RHO)),
        average,
        scope=say("wherever the power exists"),
    )
    edge, steep = _slopes(d, rho, average, slope)
    example = _knife_edge(d, cooled)
    _length_numbers(d, ratio, slope, cooled, mean, edge, example[1])
    d.state(
        "Independent tokens of probabilities {}, with {} for the chance of going on: under the power the length is "
        "geometric with the ratio {} and the mean {}. {}. At the reference itself {} and {}, a knife edge: with {} for "
        "the chance to stop and tokens that have {}, {} becomes {}; and where {} the power {}.",
        P, GO, rho.definition, mean, exists, edge, steep, HAZARD, runs(sp.Symbol("p"), TOKENS), *example,
    )  # fmt: skip


def _slopes(d: Derivation, rho: Short, average: Any, slope: Any) -> tuple[Any, Any]:
    """Add the slopes of log rho and of the mean; return their equations at alpha = 1."""
    edge = d.equal(
        say("The slope of its logarithm at the reference, from the entropy of the tokens."),
        sp.Subs(sp.Derivative(sp.log(rho), ALPHA), ALPHA, 1),
        slope,
        given={total(P[I]): sp.Integer(1)},
        scope=ANY_VOCABULARY,
    )
    powers = total(P[I] ** ALPHA)
    d.equal(
        say("Anywhere else it is, instead of the entropy, a mean weighted by the powers."),
        sp.Derivative(sp.log(rho), ALPHA),
        sp.log(GO) + total(P[I] ** ALPHA * sp.log(P[I])) / powers,
        scope=ANY_VOCABULARY,
    )
    put = {GO: 1 / (1 + OTHER), P[I]: 1 / (1 + GAIN)}
    terms = -sp.log(1 + OTHER) - PREFIX * sp.log(1 + GAIN)
    d.has_sign(
        say("The sign of both terms, with a weight {}: the ratio {}, and is the chance of going on at the reference, "
            "so the power exists exactly from some exponent below one on.", PREFIX,
            by_sign(terms, "falls", "rises")),
        sp.log(GO) + PREFIX * sp.log(P[I]),
        "negative",
        by=terms,
        where=put,
        scope=ANY_VOCABULARY,
    )  # fmt: skip
    steep = d.equal(
        say("So the mean length has this slope there, of second order in the chance to stop: a knife edge."),
        sp.Subs(sp.Derivative(Short("E[L]", average.subs(RHO, rho)), ALPHA), ALPHA, 1),
        GO / (1 - GO) ** 2 * slope,
        given={total(P[I]): sp.Integer(1)},
        scope=ANY_VOCABULARY,
    )
    return edge, steep


def _all_sequences(d: Derivation, ratio: Any) -> None:
    """Sum p^alpha over every sequence of a length, with symbols for the token probabilities."""
    pairs = []
    for size, length, alpha in itertools.product(SIZES, LENGTHS, POWERS):
        q = sp.symbols(f"q_1:{size + 1}", positive=True)
        weights = [sp.Mul(*[GO * x for x in word]) ** alpha for word in itertools.product(q, repeat=length)]
        claimed = ratio.subs(ALPHA, alpha).replace(
            lambda part: isinstance(part, sp.Sum),
            lambda part, q=q: sp.Add(*[part.function.subs(P[I], x) for x in q]),
        )
        pairs.append((sp.Add(*weights), claimed**length))
    shown = sp.Eq(sp.Symbol("weight of length L"), ratio ** sp.Symbol("L"), evaluate=False)
    words = say("The same sum over every sequence.")
    d.cases(words, shown, pairs, say("{}, {}, {}", SIZES, LENGTHS, POWERS), True)


def geometric(d: Derivation, text: Text) -> Text:
    """Add the steps that S(m) = c (1 - rho^m) / (1 - rho) solves S(m + 1) = c + rho S(m), and when it converges.

    Returns:
        A sentence on where p^alpha exists, made of the three limits.
    """
    partial = Short("S(m)", FIRST * (1 - RHO**COUNT) / (1 - RHO))
    d.equal(
        text,
        sp.Subs(partial, COUNT, COUNT + 1),
        FIRST + RHO * partial,
        scope=say("every {}, any {} other than {}", COUNT, RHO, 1),
    )
    converge = ("converge", "do not converge")
    less, more = 1 / (1 + GAIN), 1 + GAIN
    limit = FIRST * more / GAIN
    words = say("For {} they {}.", sp.Lt(less, 1, evaluate=False), by_sign(less - 1, *converge))
    d.limit(words, partial, COUNT, sp.oo, limit, where={RHO: less})
    d.limit(say("Without any loss they {}.", by_sign(sp.Integer(0), *converge)), FIRST * COUNT, COUNT, sp.oo, sp.oo)
    d.limit(say("Nor here."), partial, COUNT, sp.oo, sp.oo, where={RHO: more})
    found = [by_sign(x - 1, *EXISTS) for x in (less, more)]
    return say("For a ratio of {} the power {}, for one of {} it {}", less, found[0], more, found[1])


def _example_ratio(alpha: sp.Expr) -> sp.Expr:
    return (1 - HAZARD) ** alpha * sum(x**alpha for x in TOKENS)


def _knife_edge(d: Derivation, cooled: Any) -> tuple[Any, ...]:
    """Evaluate the example: h = 0.05 and five tokens; return what the statement says of it."""
    example = say("{}, tokens {}", runs(STOP, [HAZARD]), runs(sp.Symbol("p"), TOKENS))
    ratio = Short("rho", _example_ratio(ALPHA))
    mean = Short("E[L]", AVERAGE.subs(RHO, ratio))
    first = d.equal(say("An example at the reference."), sp.Subs(mean, ALPHA, 1), 19, scope=example)
    near = Short("E[L]_5/4", sp.Subs(mean, ALPHA, sp.Rational(5, 4)))
    margin = sp.Rational(1, 20)
    d.compare(say("A little sharper it is this to one decimal: not below."), near, "positive", cooled - margin,
              scope=example)  # fmt: skip
    d.compare(say("And not above."), near, "negative", cooled + margin, scope=example)
    rounded = sp.Eq(Short("round E[L]_5/4", sp.floor(10 * evaluate(near) + sp.Rational(1, 2)) / sp.Integer(10)), cooled,
                    evaluate=False)  # fmt: skip
    flat = sp.Rational(19, 20)
    outside = sp.Subs(ratio, ALPHA, flat)
    gone = d.compare(say("A little flatter the ratio exceeds one: there the power {}.",
                         by_sign(_example_ratio(flat) - 1, *EXISTS)), outside, "positive", 1,
                     by=_example_ratio(flat) - 1, scope=example)  # fmt: skip
    return first, rounded, gone, by_sign(_example_ratio(flat) - 1, *EXISTS)


def _length_numbers(
    d: Derivation, ratio: Any, slope: Any, cooled: Any, mean_length: Any, edge: Any, rounded: Any
) -> None:
    """Compare the package with sums over lengths, a root and a derivative in mpmath."""
    import mpmath

    means, roots, slopes = [], [], []
    slope = evaluate(slope)
    for _ in range(10):
        q, h = d.rng.dirichlet(np.ones(int(d.rng.integers(2, 6)))), float(d.rng.uniform(0.05, 0.5))
        alpha, model = float(d.rng.uniform(1.0, 3.0)), IidModel(q, h)
        rho = _ratio_of(q, h)
        at, total_weight, tokens = rho(alpha), mpmath.mpf(0), mpmath.mpf(0)
        for length in range(2000):  # 0.95^2000 is beyond rounding
            total_weight, tokens = total_weight + at**length, tokens + length * at**length
        claimed, mean = _over_tokens(ratio.subs(ALPHA, alpha), q, h), float(tokens / total_weight)
        means += [model.mean_length(alpha) / mean - 1, claimed / float(at) - 1]
        means.append(float(mean_length.rhs.subs(RHO, claimed)) / mean - 1)
        slopes.append(float(mpmath.diff(lambda a, rho=rho: mpmath.log(rho(a)), 1)) - _over_tokens(slope, q, h))
        slopes.append(model.slope - _over_tokens(slope, q, h))
        found = mpmath.findroot(lambda a, rho=rho: rho(a) - 1, (0.5, 1.0), solver="anderson", tol=1e-14)
        roots.append(float(found) - (model.critical_alpha or 0.0))
    example = IidModel([float(x) for x in TOKENS], float(HAZARD))
    numbers = [example.mean_length(1.0) - 19, (round(example.mean_length(1.25), 1) - float(cooled))]
    drawn = say("{} random models", 10)
    d.confirm(say("Sums over lengths have the package's mean."), mean_length, means, 1e-9, drawn)
    d.confirm(say("Numerical derivatives and the package's slope agree."), edge, slopes, 1e-9, drawn)
    d.confirm(say("A root of the ratio's logarithm is the package's critical exponent."), ALPHA, roots, 1e-9, drawn)
    d.confirm(say("The package's means of the example."), rounded, numbers, 1e-9, say("example"))


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


T8 = Theorem("T8", "Length of independent tokens", lengths)
