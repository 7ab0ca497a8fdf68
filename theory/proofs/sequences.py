"""T9: when p^alpha of a Markov chain exists, its exact policy, and why temperature is another one."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import sympy as sp

from sharpen.theory.proofs import sequences_numbers
from sharpen.theory.proofs.lengths import ALPHA, COUNT, GAIN, RHO, geometric
from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.proofs.sums import I, total

ANY_CHAIN = "any number of states"
EDGE, HERE, NEXT = sp.symbols("B_st v_s v_t", positive=True)
STEP = EDGE * NEXT / HERE
TWO_STEP = {"ab": sp.Rational(40, 100), "ba": sp.Rational(25, 100), "bb": sp.Rational(25, 100)}  # and aa: 0
POWER_FIRST = sp.Matrix([sp.Rational(160, 1000), sp.Rational(125, 1000)])
COOL_FIRST = sp.Matrix([sp.Rational(160, 1000), sp.Rational(250, 1000)])


def chains(
    d: Derivation,
    *,
    step: Any = STEP,
    critical: int = 1,
    power_first: Any = POWER_FIRST,
    cool_first: Any = COOL_FIRST,
) -> None:
    """Derive p^alpha of a Markov chain.

    Args:
        d: Takes the steps.
        step: Claimed probability of a transition under p^alpha, in B_st = A_st^alpha and the partition vector v.
        critical: Claimed spectral radius of A^alpha below which p^alpha exists.
        power_first: Claimed weights of the first tokens a and b of the two-step example under p^alpha.
        cool_first: The same of token-level temperature.
    """
    edge = sp.Symbol("A_st", positive=True)
    later: Any = sp.IndexedBase("x", positive=True)
    d.equal(
        "Let v_s(m) sum p^alpha over the sequences from s of fewer than m tokens. Going to t first multiplies each of "
        "them by A_st^alpha, so v(m + 1) = e + B v(m) with B_st = A_st^alpha and e_s the stop's power.",
        total((edge * later[I]) ** ALPHA),
        edge**ALPHA * total(later[I] ** ALPHA),
        scope="any number of sequences",
    )
    _all_walks(d)
    b, s, u, e, v = sp.symbols("B S u e v", commutative=False)
    d.equal(
        "The sum S(m) = 1 + B + ... + B^(m - 1) has (1 - B) S = 1 - B^m; if so, it has for m + 1. Where v(m) = S(m) e "
        "converges, B^m e vanishes and (1 - B) v = e: v = (1 - B)^-1 e.",
        (1 - b) * (1 + b * s),
        1 - b * (1 - (1 - b) * s),
        scope=ANY_CHAIN,
    )
    d.equal(
        "Let the states form one strong component. Then B has a left eigenvector u > 0 for its spectral radius rho "
        "(Perron and Frobenius), and y(m) = u v(m) goes by y(m + 1) = u e + rho y(m).",
        sp.expand(u * (e + b * v)).subs(u * b, RHO * u),
        u * e + RHO * u * v,
        shown=u * (e + b * v),
        scope=ANY_CHAIN,
    )
    geometric(
        d,
        "So y(m) = S(m) with c = u e > 0. Since u > 0 and v(m) >= 0 grows, v converges exactly where y does. (Several "
        "components: one after the other, with what follows a component added to its e.)",
    )
    _exists(d, critical)
    _doob(d, step)
    _temperature(d, power_first, cool_first)
    sequences_numbers.compare_walks(d)
    sequences_numbers.compare_spectra(d)
    sequences_numbers.compare_examples(d, _two_steps(1), _two_step_laws(power_first, cool_first))


def _all_walks(d: Derivation) -> None:
    """Sum p^alpha over every walk of up to three tokens, with symbols for all probabilities."""
    pairs = []
    for n in (2, 3):
        a: Any = sp.Matrix(n, n, lambda s, t: sp.Symbol(f"A_{s}{t}", positive=True))
        stop = [sp.Symbol(f"e_{s}", positive=True) for s in range(n)]
        b, e = a.applyfunc(lambda x: x**ALPHA), sp.Matrix([x**ALPHA for x in stop])
        v = sp.zeros(n, 1)
        for tokens in range(4):
            v = e + b * v
            walks = [(0, *w) for size in range(tokens + 1) for w in itertools.product(range(n), repeat=size)]
            sums = [sp.Mul(*[a[s, t] for s, t in itertools.pairwise(w)], stop[w[-1]]) ** ALPHA for w in walks]
            pairs.append((sp.Add(*sums), v[0]))
    shown = sp.Eq(sp.Function("v")(COUNT + 1), sp.Symbol("e") + sp.Symbol("B") * sp.Function("v")(COUNT))
    d.cases("The same over every walk.", shown, pairs, "2 and 3 states, up to 3 tokens, every alpha", True)


def _exists(d: Derivation, critical: int) -> None:
    """Compare the criterion with the solutions of v = e + B v, on every chain of two states from a list of rows."""
    b, e, v, w = sp.symbols("B e v w", commutative=False)
    d.equal(
        "Several components once more. If some v >= 0 solves v = e + B v, it is above v(0) = 0, and what it has above "
        "v(m + 1) is B times what it has above w = v(m), not negative by induction: the v(m) rise below v and "
        "converge. Their limit is such a v, so p^alpha exists exactly where there is one.",
        e + b * v - (e + b * w),
        sp.expand(b * (v - w)),
        shown=e + b * v - (e + b * w),
        scope=ANY_CHAIN,
    )
    rows = [(1, 0, 0), (Fraction(4, 5), Fraction(3, 5), 0), (Fraction(2, 3), Fraction(2, 3), Fraction(1, 3))]
    rows = sorted({x for row in rows for x in itertools.permutations(row)})  # square roots of the probabilities
    verdicts = []
    for first, second in itertools.product(rows, repeat=2):
        live = _live_rows(first, second)
        for power_of_root in (1, 2, 4) if live else ():  # alpha = 1/2, 1, 2
            weights = [Fraction(x) ** power_of_root for x in live]
            verdicts.append(_radius_below(weights, critical) == _solvable(weights))
    d.check(
        "The criterion against a search for such a v.",
        sp.Lt(RHO, critical, evaluate=False),
        verdicts,
        "two states that can be reached and can stop, rows from permutations of (1, 0, 0), (16, 9, 0)/25 and "
        "(4, 4, 1)/9, alpha = 1/2, 1, 2",
        again=True,
    )


def _live_rows(first: tuple[Fraction, ...], second: tuple[Fraction, ...]) -> list[Fraction]:
    """Return B_00, B_01, e_0, B_10, B_11, e_1, a state 1 not reached cut off; nothing if a state can never stop."""
    if not first[1]:
        return [first[0], Fraction(0), first[2], *map(Fraction, (0, 0, 1))] if first[2] else []
    stops = (first[2] or second[2]) and (second[2] or (second[0] and first[2]))
    return [first[0], first[1], first[2], *second] if stops else []


def _radius_below(weights: list[Fraction], level: int) -> bool:
    """Return whether the larger eigenvalue, a root of t^2 - (w + z) t + (w z - x y), is below the level."""
    w, x, _, y, z, _ = weights
    return 2 * level > w + z and (2 * level - w - z) ** 2 > (w - z) ** 2 + 4 * x * y


def _solvable(weights: list[Fraction]) -> bool:
    """Return whether v_0 = e + w v_0 + x v_1, v_1 = f + y v_0 + z v_1 has a solution that is not negative (Cramer)."""
    w, x, e, y, z, f = weights
    determinant = (1 - w) * (1 - z) - x * y
    return bool(determinant) and min(((1 - z) * e + x * f) / determinant, ((1 - w) * f + y * e) / determinant) >= 0


def _doob(d: Derivation, step: Any) -> None:
    """Prove that the Doob transform is a policy and that its sequences follow p^alpha."""
    row: Any = sp.IndexedBase("B", positive=True)
    values: Any = sp.IndexedBase("v", positive=True)
    stop = sp.Symbol("e_s")
    d.equal(
        "The policy B_st v_t / v_s, stop e_s / v_s, sums to one in each state, by v = e + B v.",
        total(step.subs({EDGE: row[I], NEXT: values[I]})) + stop / HERE,
        1,
        given={total(row[I] * values[I]): HERE - stop},
        scope=ANY_CHAIN,
    )
    edge, rest = sp.symbols("A_st x", positive=True)
    d.equal(
        "If it gives a rest x from t the probability x^alpha / v_t, it gives going to t and then x the probability "
        "(A_st x)^alpha / v_s. It stops with e_s / v_s: by induction it is p^alpha / v_s, exactly.",
        step.subs(EDGE, edge**ALPHA) * rest**ALPHA / NEXT,
        (edge * rest) ** ALPHA / HERE,
        scope="every sequence",
    )


def _temperature(d: Derivation, power_first: Any, cool_first: Any) -> None:
    """Compare both on Karan and Du's two steps, and on one state."""
    hazard, go = 1 / (1 + GAIN), 1 / (1 + 1 / GAIN)
    odds = go**ALPHA / hazard**ALPHA
    d.equal(
        "Token-level temperature divides each row of (B, e) by its own sum. With one state and one token, h = 1 / (1 + "
        "g), it continues with the odds rho / h^alpha; p^alpha with rho / (1 - rho).",
        (odds / (1 + odds)) / (1 - odds / (1 + odds)),
        sp.Pow(go / hazard, ALPHA),
        shown=sp.Symbol("rho") / sp.Symbol("h") ** ALPHA,
        scope="one state, one token",
    )
    d.has_sign(
        "These are alike where h^alpha + rho = 1, which falls in alpha: at alpha = 1 and nowhere else.",
        sp.expand_log(sp.diff(hazard**ALPHA + go**ALPHA, ALPHA), force=True),
        "negative",
        shown=sp.Derivative(hazard**ALPHA + go**ALPHA, ALPHA),
        scope="one state, one token",
    )
    b, e = _two_steps()
    v = (sp.eye(5) - b).LUsolve(e)
    scope = "Karan and Du 2025: aa, ab, ba, bb with weights 0, .40, .25, .25, alpha = 2"
    scale = sp.Rational(81, 100)  # the square of the sum of the weights
    first = sp.Matrix([b[0, 1] * v[1], b[0, 2] * v[2]]) * scale
    d.equal(
        "The weights of the first tokens a and b of their example under p^alpha, in their units: a is ahead.",
        first,
        power_first,
        shown=sp.Symbol("B_0 v"),
        scope=scope,
    )
    d.equal(
        "The same under token-level temperature: b is ahead. The two choose differently.",
        sp.Matrix([b[0, 1], b[0, 2]]) * scale,
        cool_first,
        shown=sp.Symbol("B_0"),
        scope=scope,
    )
    sharp, cool = _two_step_laws(power_first, cool_first)
    divergence: Any = sum(x * sp.log(x / y) for x, y in zip(sharp, cool, strict=True))
    d.equal(
        "Their divergence KL(p^alpha || temperature), nats.",
        sp.expand_log(divergence, force=True),
        sp.expand_log(sp.Rational(32, 57) * sp.log(2) + sp.log(sp.Rational(41, 57)), force=True),
        shown=sp.Symbol("KL"),
        scope=scope,
    )
    d.has_sign("It is positive.", divergence, "positive", shown=sp.Symbol("KL"), scope=scope)
    d.equal(
        "If the sequences that begin with a are right, the expected reward differs by this.",
        sharp[0] - cool[0],
        sp.Rational(32, 57) - sp.Rational(16, 41),
        shown=sp.Symbol("E[r], p^alpha") - sp.Symbol("E[r], temperature"),
        scope=scope,
    )


def _two_steps(alpha: int = 2) -> tuple[sp.Matrix, sp.Matrix]:
    """Return B and e of the example as a chain: start, after a, after b, and the ends after a and after b."""
    mass = sum(TWO_STEP.values())
    first = TWO_STEP["ab"] / mass, (TWO_STEP["ba"] + TWO_STEP["bb"]) / mass
    a = sp.zeros(5, 5)
    a[0, 1], a[0, 2], a[1, 4] = first[0], first[1], 1
    a[2, 3], a[2, 4] = (TWO_STEP[x] / (TWO_STEP["ba"] + TWO_STEP["bb"]) for x in ("ba", "bb"))
    return a.applyfunc(lambda x: x**alpha), sp.Matrix([0, 0, 0, 1, 1])


def _two_step_laws(power_first: Any, cool_first: Any) -> tuple[list[sp.Expr], list[sp.Expr]]:
    """Return the probabilities of ab, ba and bb under both, from the weights of the first tokens."""
    laws = []
    for first in (power_first, cool_first):
        a, b = first[0] / sum(first), first[1] / sum(first)
        laws.append([a, b / 2, b / 2])
    return laws[0], laws[1]


T9 = Theorem(
    "T9",
    "Power of a Markov chain",
    "With the transition matrix A and the stop vector e, on states that can be reached and can stop, p^alpha exists "
    "exactly where the spectral radius of the entrywise power A^alpha is below 1. The partition vector is v = (1 - "
    "A^alpha)^-1 e^alpha and the exact token-level policy the Doob transform A_st^alpha v_t / v_s, stop e_s^alpha / "
    "v_s. Temperature at every token is another policy, with a gap in KL and in reward.",
    r"v = (I - A^{\circ\alpha})^{-1} e^{\circ\alpha}, \qquad \pi(t \mid s) = \frac{A_{st}^\alpha v_t}{v_s}, \qquad "
    r"\pi(\mathrm{stop} \mid s) = \frac{e_s^\alpha}{v_s}",
    chains,
)
