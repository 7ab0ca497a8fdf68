"""T11 and T24: the self-sharpening map pi -> pi^alpha / Z, and the same map on a sample of its own outcomes."""

from __future__ import annotations

import itertools
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, Word, by_sign, by_value, runs
from sharpen.theory.proofs.numbers import selfmap as numbers
from sharpen.theory.proofs.numbers.selfmap import ALPHA, COPIES, GAP, MASS, ROUNDS
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, PI, I, J, K, N, P, Z, total

SIZE = sp.Symbol("s", integer=True, positive=True)  # of a support
EXCESS = sp.Symbol("a", positive=True)  # alpha = 1 + a above 1
DEFICIT = sp.Symbol("b", positive=True)  # alpha = 1 - b below 1
DEPTH = sp.Symbol("x", positive=True)  # a probability exp(-x) that falls to 0 as x grows
V: Any = sp.IndexedBase("v", real=True)  # a direction
EPSILON = sp.Symbol("epsilon", positive=True)
FLIPS = sp.log(4 * MASS * (1 - MASS)) / 2
SUPPORT = say("any number {} of outcomes in the support", N)
OUTCOMES, ABOVE, BELOW = (2, 3, 4), sp.Integer(3), sp.Rational(1, 3)  # cases whose matrices are diagonalised
MAP = sp.Symbol("F")


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
    image = _orbit(d, exponent)
    counted, fixed = _map_fixed_points(d, count)
    eigenvalue = _map_jacobian(d, inside)
    limits = _lost_outcome(d, across)
    classes = _map_classes(d, inside, across, stable)
    fall = _collapse(d, rate)
    numbers.compare_map(d, exponent, inside, rate, image, eigenvalue, fall)
    vertices, uniform, others = classes
    d.state(
        "{} rounds of the map {} give {}. Its fixed points, for an exponent other than one, are the uniform policies "
        "on the supports, {} of them, and at one every policy: {}. Along a direction {} inside the support it has the "
        "eigenvalue in {}; a lost outcome at {} gets another factor, with {} for exponents above one and {} for those "
        "below. So above one, where there is more than one outcome, a vertex {}, the uniform policy {} and any policy "
        "between them {}, and the log-odds against the mode go with the exponent, {}: a doubly exponential collapse. "
        "Below one a vertex {} and the uniform policy {}.",
        ROUNDS, MAP, image, counted, fixed, V, eigenvalue, sp.exp(-DEPTH), *limits, vertices[0], uniform[0], others[0],
        fall, vertices[1], uniform[1],
    )  # fmt: skip


def _orbit(d: Derivation, exponent: sp.Expr) -> Any:
    a = sp.Symbol("a", positive=True)
    power = sp.exp(a * LOG_P[K]) / Z
    d.equal(
        say("One round of {} on a power {} of the reference, of log-probabilities {}: the old normaliser {} cancels.",
            MAP, power, LOG_P, Z),
        power**ALPHA / total((sp.exp(a * LOG_P[I]) / Z) ** ALPHA),
        sp.exp(ALPHA * a * LOG_P[K]) / total(sp.exp(ALPHA * a * LOG_P[I])),
        scope=ANY_N,
    )  # fmt: skip
    start = Short("exponent", exponent)
    d.equal(say("The exponent before the first round."), sp.Subs(start, ROUNDS, 0), 1)
    d.equal(
        say("So each round gives it another factor {}, and by induction this is the exponent after {} rounds.",
            ALPHA, ROUNDS),
        ALPHA * start,
        sp.Subs(start, ROUNDS, ROUNDS + 1),
    )  # fmt: skip
    image = Short("F^k(p)_k", P[K] ** exponent / Short("Z", total(P[I] ** exponent)))
    return d.equal(
        say("That is the policy then."),
        image,
        P[K] ** exponent / total(P[I] ** exponent),
        scope=ANY_N,
    )


def _map_fixed_points(d: Derivation, count: sp.Expr) -> tuple[Any, Any]:
    before = LOG_P[J] - LOG_P[K]
    odds = Short("odds", ALPHA * LOG_P[J] - ALPHA * LOG_P[K])
    d.equal(
        say("What one round does to log-odds. For {} other than {} a policy is fixed exactly if it makes no difference "
            "between its outcomes; one without probability keeps none.", ALPHA, 1),
        odds - before,
        (ALPHA - 1) * before,
        scope=ANY_N,
    )  # fmt: skip
    d.equal(
        say("The uniform policy on any support is fixed."),
        (1 / N) ** ALPHA / total((1 / N) ** ALPHA),
        1 / N,
        scope=SUPPORT,
    )
    fixed = d.equal(say("Here nothing changes: every policy is fixed."), sp.Subs(odds, ALPHA, 1), before)
    subsets = sp.Sum(sp.binomial(N, SIZE), (SIZE, 1, N))
    counted = d.equal(
        say("One fixed point for each support that is not empty."),
        subsets,
        count,
        by=sp.summation(sp.binomial(N, SIZE), (SIZE, 1, N)),
        scope=ANY_N,
    )
    return counted, fixed


def _map_jacobian(d: Derivation, inside: sp.Expr) -> Any:
    image = Short("F_k", PI[K] ** ALPHA / total(PI[I] ** ALPHA))
    other = Short("F_j", image.value.subs(K, J))
    jacobian = ALPHA * image * (sp.KroneckerDelta(J, K) / PI[K] - other / PI[J])
    d.equal(
        say("The Jacobian where every outcome has a chance. Off the diagonal its row has the factor {}, so towards a "
            "lost outcome it is triangular: its eigenvalues are those inside and those across.", image),
        sp.Derivative(image, PI[J]),
        jacobian,
        scope=ANY_N,
    )  # fmt: skip
    at_uniform = {PI[K]: 1 / N, PI[J]: 1 / N, image: 1 / N, other: 1 / N}
    uniform = Short("DF_kj", jacobian.xreplace(at_uniform))
    d.equal(
        say("At the uniform policy, which is its own image."),
        uniform,
        ALPHA * (sp.KroneckerDelta(J, K) - 1 / N),
        scope=ANY_N,
    )
    return d.equal(
        say("Every direction {} of sum zero is an eigenvector: one dimension less than the support.", V),
        total(uniform * V[J], J),
        inside * V[K],
        given={total(V[I]): sp.Integer(0)},
        scope=SUPPORT,
    )


def _lost_outcome(d: Derivation, across: tuple[sp.Expr, sp.Expr, sp.Expr]) -> tuple[Any, Any]:
    weight = EPSILON**ALPHA + SIZE * ((1 - EPSILON) / SIZE) ** ALPHA
    rest = Short("c", 1 / (EPSILON**ALPHA + SIZE ** (1 - ALPHA) * (1 - EPSILON) ** ALPHA))
    factor = EPSILON**ALPHA / EPSILON / weight
    d.equal(
        say("Give a lost outcome {} and leave the rest uniform on {} others. The map gives it this factor.",
            EPSILON, SIZE),
        factor,
        EPSILON ** (ALPHA - 1) * rest,
        by=EPSILON**ALPHA / EPSILON / (EPSILON**ALPHA + SIZE ** (1 - ALPHA) * (1 - EPSILON) ** ALPHA),
        scope=say("every {} below one", EPSILON),
    )  # fmt: skip
    d.has_sign(
        say("The second factor has one sign even where the outcome is lost, so the first decides."),
        Short("1/c", (1 / rest.value).subs(EPSILON**ALPHA, 0).subs(EPSILON, 0)),
        "positive",
    )
    first = Short("factor", EPSILON ** (ALPHA - 1))
    found = []
    for alpha, value in zip((1 + EXCESS, sp.Integer(1), 1 - DEFICIT), across, strict=True):
        found.append(d.limit(
            say("With {} for {} and {} for {}: the lost outcome {}.", sp.exp(-DEPTH), EPSILON, alpha, ALPHA,
                by_value(value, "stays lost", "keeps what it has", "comes back")),
            first.value.subs(EPSILON, sp.exp(-DEPTH)).subs(ALPHA, alpha),
            DEPTH,
            sp.oo,
            value,
            where={EPSILON: sp.exp(-DEPTH), ALPHA: alpha},
        ))  # fmt: skip
    return found[0], found[2]


def _class(inside: Any, across: Any, alpha: Any, size: int, n: int) -> Word:
    """Return what a fixed point does, from the eigenvalues that it has."""
    values = [inside.subs(ALPHA, alpha)] * (size - 1) + [across] * (n - size)
    kinds = {by_sign(value - 1, "attracts", "repels").text for value in values}
    about = inside if size > 1 else across
    return Word(about, kinds.pop() if len(kinds) == 1 else "is a saddle")


def _map_classes(
    d: Derivation,
    inside: sp.Expr,
    across: tuple[sp.Expr, sp.Expr, sp.Expr],
    stable: tuple[sp.Expr, sp.Expr],
) -> list[tuple[Word, Word]]:
    """Count the fixed points that attract; return what vertices, the uniform policy and the others do."""
    sides = ((ABOVE, across[0], stable[0]), (BELOW, across[2], stable[1]))
    classes = [
        tuple(_class(inside, factor, alpha, size, 3) for alpha, factor, _ in sides) for size in (1, 3, 2)
    ]  # of three outcomes: a vertex, the uniform policy, what is between
    for side, subsets, words in (
        (0, sp.binomial(N, 1, evaluate=False), "above one: the attractors are as many as the vertices"),
        (1, sp.binomial(N, N, evaluate=False), "below one: as many as the full supports"),
    ):
        vertex, uniform, other = (each[side] for each in classes)
        d.equal(
            say("A vertex {}, the uniform policy {} and any other {} for exponents " + words + ".",
                vertex, uniform, other),
            subsets,
            stable[side],
            by=sp.binomial(N, 1).expand(func=True) if side == 0 else sp.binomial(N, N).simplify(),
            scope=ANY_N,
        )  # fmt: skip
    verdicts = []
    for n, (alpha, outside, number) in itertools.product(OUTCOMES, sides):
        kinds = []
        for size in range(1, n + 1):
            matrix = alpha * (sp.eye(size) - sp.ones(size, size) / size)
            values = list(matrix.eigenvals(multiple=True))
            values.remove(0)  # of the direction (1, ..., 1), which leaves the simplex
            verdicts.append(values == [inside.subs(ALPHA, alpha)] * (size - 1))
            attracts = all(value < 1 for value in values + [outside] * (n - size))
            kinds += [attracts] * int(sp.binomial(n, size))
        verdicts.append(sum(kinds) == number.subs(N, n))
    shown = sp.Eq(sp.Symbol("attractors"), sp.Piecewise((stable[0], ALPHA > 1), (stable[1], True)), evaluate=False)
    scope = say("{}, {}", runs(N, OUTCOMES), runs(ALPHA, (ABOVE, BELOW)))
    d.check(say("The same by the eigenvalues of each matrix."), shown, verdicts, scope, again=True)
    return classes  # pyright: ignore[reportReturnType]


def _collapse(d: Derivation, rate: sp.Expr) -> Any:
    a, others = sp.symbols("A m", positive=True)
    power = (1 + EXCESS) ** DEPTH
    d.limit(
        say("The exponent for {} and many rounds: it {}.", sp.Eq(ALPHA, 1 + EXCESS, evaluate=False),
            by_value(sp.Limit(power, DEPTH, sp.oo), "has no bound", "is lost")),
        power,
        DEPTH,
        sp.oo,
        sp.oo,
        where={ALPHA: 1 + EXCESS},
    )  # fmt: skip
    largest = sp.exp(-a * GAP)
    upper = sp.log(others * largest) / a
    d.equal(
        say("The odds against a single mode, of exponent {}, are a sum over {} others, of which {} is the best. So they"
            " lie between that and as many of it; the logarithm of the latter, for a unit of the exponent.",
            a, others, largest),
        upper,
        sp.log(others) / a - GAP,
        by=sp.expand_log(sp.log(others * largest)) / a,
        scope=ANY_N,
    )  # fmt: skip
    d.limit(say("The bound below, which is the best of them alone."), sp.log(largest) / a, a, sp.oo, rate, scope=ANY_N)
    return d.limit(
        say("Both bounds have this limit: the logarithm of what the mode has not goes with the exponent."),
        sp.log(others) / a - GAP,
        a,
        sp.oo,
        rate,
        scope=ANY_N,
    )


def retraining(
    d: Derivation,
    *,
    loss: sp.Expr = 1 / COPIES,
    rate: sp.Expr = FLIPS,
) -> None:
    """Derive what retraining on K own samples does.

    Args:
        d: Takes the steps.
        loss: Claimed part of the diversity that a round without sharpening takes, in the mean.
        rate: Claimed exponent, for each sample, of the bound on the chance that the first round flips the mode.
    """
    x, a = sp.symbols("x a", positive=True)
    series = (1 - a + a * x) ** COPIES
    count = Short("E[c]", sp.Subs(sp.Derivative(series, x), x, 1))
    d.equal(
        say("Of {} samples an outcome of mass {} gets this many in the mean: its new mass has the old one as mean, so "
            "what an outcome has in the end, everything or nothing, is everything with its own first probability.",
            COPIES, a),
        count, COPIES * a,
    )  # fmt: skip
    pairs = Short("E[pairs]", sp.Subs(sp.Derivative(series, (x, 2)), x, 1))
    d.equal(say("And so many ordered pairs."), pairs, COPIES * (COPIES - 1) * a**2)
    square = (COPIES * (COPIES - 1) * PI[I] ** 2 + COPIES * PI[I]) / COPIES**2
    diversity = Short("D", 1 - total(PI[I] ** 2))
    fall = d.equal(
        say("So the chance {} that two draws differ has this mean after a round.", diversity),
        Short("E[D_next]", 1 - total(square)),
        (1 - loss) * diversity,
        given={total(PI[I]): sp.Integer(1)},
        scope=ANY_N,
    )
    half = sp.Symbol("t", positive=True)
    moment = (1 - MASS + MASS * half**2) / half
    least = sp.sqrt((1 - MASS) / MASS)
    d.equal(
        say("With sharpening the mode's mass {} is that of the power. It is lost in a round if no more than one of two "
            "samples is the mode. For any base {} that chance is below a power of this (Chernoff), which is stationary "
            "here.", MASS, half),
        sp.Subs(sp.Derivative(moment, half), half, least), 0,
    )  # fmt: skip
    odds = {MASS: (1 + GAP) / (2 + GAP)}  # above one half
    bound = d.equal(
        say("There its logarithm is this."),
        Short("log rate", sp.log(sp.Subs(moment, half, least))),
        rate,
        by=sp.log(2 * sp.sqrt(MASS * (1 - MASS))),
    )
    below = -(GAP**2) / (2 + GAP) ** 2
    sure = d.compare(
        say("For a mode of more than one of two the base of the power is below one: the chances {} with more samples.",
            by_sign(below, "go down", "go up")),
        sp.exp(2 * rate), "negative", 1, where=odds, by=below,
    )  # fmt: skip
    diffusion = Short("T", -2 * COPIES * ((1 - a) * sp.log(1 - a) + a * sp.log(a)))
    time = d.equal(
        say("For two outcomes and many samples the mean number of rounds until one has everything solves the "
            "equation of the diffusion; it is zero at both ends."),
        a * (1 - a) / (2 * COPIES) * sp.Derivative(diffusion, (a, 2)), -1,
    )  # fmt: skip
    numbers.compare_retraining(d, fall, bound, time, rate, diffusion.value, a)
    d.state(
        "Retraining on samples of its own without sharpening takes {} of the diversity in every round, {}, and ends at "
        "one outcome; of two outcomes of masses {} and {} after {} rounds, by {}. With sharpening a round that draws "
        "{} samples loses a mode of mass {} with a chance of no more than a power of this, {}, {}.",
        loss, fall, a, 1 - a, diffusion, time, COPIES, MASS, bound, sure,
    )  # fmt: skip


T11 = Theorem("T11", "Self-sharpening", self_sharpening)
T24 = Theorem("T24", "Retraining on own samples", retraining)
