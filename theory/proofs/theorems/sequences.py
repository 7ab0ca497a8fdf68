"""T9: when p^alpha of a Markov chain exists, its exact policy, and why temperature is another one."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, evaluate, runs
from sharpen.theory.proofs.numbers import sequences as sequences_numbers
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.proofs.sums import I, total
from sharpen.theory.proofs.theorems.lengths import ALPHA, COUNT, FIRST, GAIN, RHO, geometric

ANY_CHAIN = say("any number of states")
EDGE, HERE, NEXT = sp.symbols("B_st v_s v_t", positive=True)
STEP = EDGE * NEXT / HERE
TRANSITION, STOP = sp.symbols("A e")  # in words
TWO_STEP = {"ab": sp.Rational(40, 100), "ba": sp.Rational(25, 100), "bb": sp.Rational(25, 100)}  # and aa: 0
POWER_FIRST = sp.Matrix([sp.Rational(160, 1000), sp.Rational(125, 1000)])
COOL_FIRST = sp.Matrix([sp.Rational(160, 1000), sp.Rational(250, 1000)])
ONE_TOKEN = say("one state, one token")
FIRSTS = ("the first", "the second")
ROOTS: Any = ((1, 0, 0), (Fraction(4, 5), Fraction(3, 5), 0), (Fraction(2, 3), Fraction(2, 3), Fraction(1, 3)))


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
    power = Short("B_st", edge**ALPHA)
    d.equal(
        say("Sum the powers of the sequences from a state, of a bounded number of tokens. Going to another state first "
            "gives each of them the factor {}, the entry of a matrix.", power),
        total((edge * later[I]) ** ALPHA),
        power * total(later[I] ** ALPHA),
        scope=say("any number of sequences"),
    )  # fmt: skip
    _all_walks(d)
    partition = _partition(d)
    _exists(d, critical)
    stops = _doob(d, step)
    gap, reward = _temperature(d, power_first, cool_first)
    sequences_numbers.compare_walks(d, partition, stops[1])
    sequences_numbers.compare_spectra(d)
    sequences_numbers.compare_examples(d, _two_steps(1), _two_step_laws(power_first, cool_first), gap)
    d.state(
        "A chain of transitions {} and stops {}, on states that can be reached and can stop. Its power exists exactly "
        "where the spectral radius of the entrywise power of {} has {}. The partition vector obeys {}, and the exact "
        "token-level policy is its Doob transform, {} with {}: a sequence gets {}. Temperature at every token is "
        "another policy; in an example they differ by {} and {}.",
        TRANSITION, STOP, TRANSITION, sp.Lt(RHO, critical, evaluate=False), partition,
        Short("P(t | s)", step).definition, *stops, gap, reward,
    )  # fmt: skip


def _partition(d: Derivation) -> Any:
    """Add the partition vector and where its sums converge; return its equation."""
    b, s, u, e, v = sp.symbols("B S u e v", commutative=False)
    d.equal(
        say("The sums obey {}. With {} for that of the powers of {} below some power, one more term keeps this form.",
            sp.Eq(sp.Function("v")(COUNT + 1), sp.Symbol("e") + sp.Symbol("B") * sp.Function("v")(COUNT),
                  evaluate=False), s, b),
        (1 - b) * (1 + b * s),
        1 - b * (1 - (1 - b) * s),
        scope=ANY_CHAIN,
    )  # fmt: skip
    partition = d.equal(
        say("Where the last power of {} leaves nothing of {} the limit is the partition vector.", b, e),
        (1 - b) * Short("v", (1 - b) ** -1 * e),
        e,
        scope=ANY_CHAIN,
    )  # fmt: skip
    d.equal(
        say("Let the states form one strong component. Then {} has a left eigenvector {} of one sign (Perron and "
            "Frobenius) for its spectral radius {}, and along it the sums {} obey this.", b, u, RHO, v),
        sp.expand(u * (e + b * v)),
        u * e + RHO * u * v,
        where={u * b: RHO * u},
        scope=ANY_CHAIN,
    )  # fmt: skip
    geometric(d, say("So along it they are these, with {} for the eigenvector's product with the stops, and the sums "
                     "converge exactly where these do. (Several components: one after the other, with what follows a "
                     "component added to its stops.)", FIRST))  # fmt: skip
    return partition


def _all_walks(d: Derivation) -> None:
    """Sum p^alpha over every walk of up to three tokens, with symbols for all probabilities."""
    pairs = []
    sizes, longest = runs(sp.Symbol("n"), (2, 3)), runs(COUNT, range(4))
    for n in sizes:
        a: Any = sp.Matrix(n, n, lambda s, t: sp.Symbol(f"A_{s}{t}", positive=True))
        stop = [sp.Symbol(f"e_{s}", positive=True) for s in range(n)]
        b, e = a.applyfunc(lambda x: x**ALPHA), sp.Matrix([x**ALPHA for x in stop])
        v = sp.zeros(n, 1)
        for tokens in longest:
            v = e + b * v
            walks = [(0, *w) for size in range(tokens + 1) for w in itertools.product(range(n), repeat=size)]
            sums = [sp.Mul(*[a[s, t] for s, t in itertools.pairwise(w)], stop[w[-1]]) ** ALPHA for w in walks]
            pairs.append((sp.Add(*sums), v[0]))
    shown = sp.Eq(sp.Function("v")(COUNT + 1), sp.Symbol("e") + sp.Symbol("B") * sp.Function("v")(COUNT))
    words = say("So the sums obey this, here over every walk, {} for the powers of the stops.", STOP)
    d.cases(words, shown, pairs, say("{} states, {} tokens, every {}", sizes, longest, ALPHA), True)


def _exists(d: Derivation, critical: int) -> None:
    """Compare the criterion with the solutions of v = e + B v, on every chain of two states from a list of rows."""
    b, e, v, w = sp.symbols("B e v w", commutative=False)
    d.equal(
        say("Several components once more. If some {} with entries of one sign solves the equation, it is above the "
            "first sums, and what it has above the next ones comes, by the matrix, from what it has above these, {}: "
            "by induction they stay below it and converge. Their limit solves the equation, so the power exists "
            "exactly where it has such a solution.", v, w),
        e + b * v - (e + b * w),
        sp.expand(b * (v - w)),
        scope=ANY_CHAIN,
    )  # fmt: skip
    rows = sorted({x for row in ROOTS for x in itertools.permutations(row)})  # square roots of the probabilities
    powers = runs(ALPHA, (sp.Rational(1, 2), 1, 2))
    verdicts = []
    for first, second in itertools.product(rows, repeat=2):
        live = _live_rows(first, second)
        for alpha in powers if live else ():
            weights = [Fraction(x) ** int(2 * alpha) for x in live]
            verdicts.append(_radius_below(weights, critical) == _solvable(weights))
    squares = [[sp.Rational(str(Fraction(x) ** 2)) for x in row] for row in ROOTS]
    d.check(
        say("The criterion against a search for such a solution."),
        sp.Lt(RHO, critical, evaluate=False),
        verdicts,
        say("two states that can be reached and can stop, rows from permutations of {}, {}",
            runs(TRANSITION, [sp.Tuple(*row) for row in squares]), powers),
        again=True,
    )  # fmt: skip


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


def _doob(d: Derivation, step: Any) -> tuple[Any, Any]:
    """Prove that the Doob transform is a policy and that its sequences follow p^alpha; return stop and law."""
    row: Any = sp.IndexedBase("B", positive=True)
    values: Any = sp.IndexedBase("v", positive=True)
    stop = Short("P(stop | s)", sp.Symbol("e_s") / HERE)
    d.equal(
        say("The policy {} with {} sums to one in each state.", Short("P(t | s)", step), stop),
        total(step.subs({EDGE: row[I], NEXT: values[I]})) + stop,
        1,
        given={total(row[I] * values[I]): HERE - sp.Symbol("e_s")},
        scope=ANY_CHAIN,
    )
    edge, rest = sp.symbols("A_st x", positive=True)
    law = d.equal(
        say("If it gives a rest {} from the next state its power over the partition there, so it does to that "
            "transition and the rest from here; and to stopping: by induction to every sequence.", rest),
        Short("P(x)", step.subs(EDGE, edge**ALPHA) * rest**ALPHA / NEXT),
        (edge * rest) ** ALPHA / HERE,
        scope=say("every sequence"),
    )  # fmt: skip
    return stop.definition, law


def _temperature(d: Derivation, power_first: Any, cool_first: Any) -> tuple[Any, Any]:
    """Compare both on Karan and Du's two steps, and on one state; return their divergence and gap in reward."""
    hazard, go = 1 / (1 + GAIN), 1 / (1 + 1 / GAIN)
    odds = go**ALPHA / hazard**ALPHA
    chance = Short("q_go", odds / (1 + odds))
    d.equal(
        say("Token-level temperature divides each row of powers by its own sum. With one state and one token it goes "
            "on with these odds; the power with others, of the ratio {} to what it leaves of one.", RHO),
        chance / (1 - chance),
        (go / hazard) ** ALPHA,
        scope=ONE_TOKEN,
    )  # fmt: skip
    both = hazard**ALPHA + go**ALPHA
    falling = sp.expand_log(sp.diff(both, ALPHA), force=True)
    d.has_sign(
        say("They are alike where the powers of going on and stopping sum to one, which happens at the reference and "
            "nowhere else, as that sum only {}.", by_sign(falling, "falls", "rises")),
        sp.Derivative(both, ALPHA),
        "negative",
        by=falling,
        scope=ONE_TOKEN,
    )  # fmt: skip
    return _two_step_example(d, power_first, cool_first)


def _two_step_example(d: Derivation, power_first: Any, cool_first: Any) -> tuple[Any, Any]:
    """Add the example in which the power and temperature choose differently; return its gaps."""
    b, e = _two_steps()
    v = (sp.eye(5) - b).LUsolve(e)
    scope = say(
        "Karan and Du 2025, two tokens, {}, {}", runs(sp.Symbol("p"), (0, *TWO_STEP.values())), runs(ALPHA, [2])
    )
    scale = sp.Rational(81, 100)  # the square of the sum of the weights
    words = [by_sign(first[0] - first[1], *FIRSTS) for first in (power_first, cool_first)]
    sharp_first = sp.Matrix([b[0, 1] * v[1], b[0, 2] * v[2]]) * scale
    d.equal(
        say("An example's weights of the two first tokens under the power, up to a factor: it prefers {}.", words[0]),
        sharp_first,
        power_first,
        name="B_0 v",
        scope=scope,
    )
    d.equal(
        say("The same under token-level temperature: it prefers {}.", words[1]),
        sp.Matrix([b[0, 1], b[0, 2]]) * scale,
        cool_first,
        name="B_0",
        scope=scope,
    )
    sharp, cool = _two_step_laws(power_first, cool_first)
    divergence = Short("KL", sum(x * sp.log(x / y) for x, y in zip(sharp, cool, strict=True)))
    gap = d.equal(
        say("Their divergence, nats."),
        divergence,
        sp.Rational(32, 57) * sp.log(2) + sp.log(sp.Rational(41, 57)),
        by=sp.expand_log(evaluate(divergence), force=True),
        scope=scope,
    )
    d.has_sign(say("It is not zero."), divergence, "positive", scope=scope)
    reward = d.equal(
        say("If the sequences that begin with the first token are right, the expected reward differs by this."),
        Short("gap in E[r]", sharp[0] - cool[0]),
        sp.Rational(32, 57) - sp.Rational(16, 41),
        scope=scope,
    )
    return gap, reward


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


T9 = Theorem("T9", "Power of a Markov chain", chains)
