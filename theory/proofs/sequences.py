"""T9: when p^alpha of a Markov chain exists, its exact policy, and why temperature is another one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.lengths import ALPHA, COUNT, GAIN, RHO, geometric
from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.proofs.sums import I, total
from sharpen.theory.sequences import (
    MarkovModel,
    Reward,
    Spectrum,
    critical_alpha,
    gap,
    length_pmf,
    power,
    temperature,
)

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
    power_first: Any = POWER_FIRST,
    cool_first: Any = COOL_FIRST,
) -> None:
    """Derive p^alpha of a Markov chain.

    Args:
        d: Takes the steps.
        step: Claimed probability of a transition under p^alpha, in B_st = A_st^alpha and the partition vector v.
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
    _doob(d, step)
    _temperature(d, power_first, cool_first)
    _chain_numbers(d, power_first, cool_first)


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


def _chain_numbers(d: Derivation, power_first: Any, cool_first: Any) -> None:
    """Compare the package with sums over walks, with eigenvalues and with published numbers."""
    from scipy.optimize import root_scalar

    partitions, lengths_of, roots, drawn = [], [], [], "10 random chains of 2 or 3 states"
    for _ in range(10):
        n, alpha = int(d.rng.integers(2, 4)), float(d.rng.uniform(2.0, 3.0))
        rows = 0.4 * d.rng.dirichlet(np.ones(n + 1), size=n)
        rows[:, -1] += 0.6  # stops early, so that few tokens suffice
        a, model = rows[:, :-1], MarkovModel(rows[:, :-1], rows[:, -1])
        walks = _sums_of_walks(a, rows[:, -1], alpha)
        found = power(model, alpha)
        partitions.append(walks.sum() - np.exp(found.log_partition[0]))
        lengths_of += list(walks / walks.sum() - length_pmf(found.policy, walks.size - 1))

        def radius(alpha: float, a: np.ndarray = a) -> float:
            return float(np.max(np.abs(np.linalg.eigvals(a**alpha)))) - 1.0

        roots.append(
            root_scalar(radius, bracket=(0.0, 1.0), xtol=1e-14).root - (critical_alpha(Spectrum(model)) or 0.0)
        )
    scope = drawn + ", up to 9 tokens"
    b, e = sp.symbols("B e", commutative=False)
    partition = sp.Eq(sp.Symbol("v", commutative=False), (1 - b) ** -1 * e, evaluate=False)
    d.confirm("Sums of p^alpha over all walks are the package's.", partition, partitions, 1e-7, scope)
    d.confirm("By length they are its policy's law.", sp.Symbol("P(L)"), lengths_of, 1e-7, scope)
    d.confirm("NumPy's eigenvalues reach 1 at its critical alpha.", sp.Eq(RHO, 1), roots, 1e-10, drawn)
    _published_numbers(d, power_first, cool_first)


def _sums_of_walks(a: np.ndarray, stop: np.ndarray, alpha: float, most: int = 9) -> np.ndarray:
    """Return the sum of p^alpha over all walks of 0 to ``most`` tokens from state 0, walk by walk, shape [most + 1]."""
    n, sums = stop.size, []
    ends, chance = np.zeros(1, dtype=int), np.ones(1)
    for _ in range(most + 1):
        sums.append(np.sum((chance * stop[ends]) ** alpha))
        chance = (chance[:, None] * a[ends]).ravel()
        ends = np.tile(np.arange(n), ends.size)
    return np.array(sums)


def _published_numbers(d: Derivation, power_first: Any, cool_first: Any) -> None:
    """Compare the package with the two-step example and with a published table."""
    b, e = _two_steps(1)
    model = MarkovModel(np.array(b, dtype=float), np.array(e, dtype=float).ravel())
    sharp, cool = _two_step_laws(power_first, cool_first)
    found = gap(model, 2.0, Reward(step=np.eye(5)[1]))
    first = [policy.transition.toarray()[0, 1] for policy in (power(model, 2.0).policy, temperature(model, 2.0))]
    errors = [found.kl_power_temperature - float(sum(x * sp.log(x / y) for x, y in zip(sharp, cool, strict=True)))]
    errors += [(found.reward_gap or 0.0) - float(sharp[0] - cool[0]), first[0] - float(sharp[0])]
    errors.append(first[1] - float(cool[0]))
    text = "The package's policies on the two-step example, their KL and gap in reward."
    d.confirm(text, sp.Symbol("KL"), errors, 1e-12, "example")
    law = np.array([0.38, 0.02, 0.33, 0.27])
    once = MarkovModel(np.vstack([np.append(0.0, law), np.zeros((4, 5))]), np.append(0.0, np.ones(4)))
    printed = power(once, 4.0).policy.transition.toarray()[0, 1:].round(2) - [0.55, 0.0, 0.31, 0.14]
    text = "The package's p^4 of p = (.38, .02, .33, .27) is what Ji et al. 2026 print, to two decimals."
    d.confirm(text, sp.Symbol("p") ** 4, printed, 1e-12, "published values")


T9 = Theorem(
    "T9",
    "Power of a Markov chain",
    "With the transition matrix A and the stop vector e, p^alpha exists exactly where the spectral radius of the "
    "entrywise power A^alpha is below 1. The partition vector is v = (1 - A^alpha)^-1 e^alpha and the exact "
    "token-level policy the Doob transform A_st^alpha v_t / v_s, stop e_s^alpha / v_s. Temperature at every token is "
    "another policy.",
    r"v = (I - A^{\circ\alpha})^{-1} e^{\circ\alpha}, \qquad \pi(t \mid s) = \frac{A_{st}^\alpha v_t}{v_s}, \qquad "
    r"\pi(\mathrm{stop} \mid s) = \frac{e_s^\alpha}{v_s}",
    chains,
)
