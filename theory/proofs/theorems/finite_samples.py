"""T13: the process of sampled updates: its drift and variance, and what the vertices do to it.

Proved: the moments of one step, that RLOO on two outcomes never steps the wrong way, how long it takes, that it freezes
near a vertex, and that REINFORCE with a positive reward leaves every vertex again. The probability of reaching one end
before the other is that of the diffusion with the same drift and variance; the process itself is compared with it
numerically.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, by_value, runs
from sharpen.theory.proofs.numbers import finite_samples as numbers
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, N, mean, total

R: Any = sp.IndexedBase("R", real=True)  # pseudo-rewards; over i = 1..n also the rewards of a group of n samples
GROUP = sp.Symbol("G", integer=True, positive=True)
M = sp.Symbol("m", positive=True)  # probability of the better of two outcomes
LESS = sp.Symbol("l", positive=True)  # 1 - m
GAP, ETA = sp.symbols("Delta eta", positive=True)
REWARD = sp.Symbol("R", real=True, nonzero=True)  # of the worse outcome; negative where it is a log-likelihood
START = sp.Symbol("x_0", real=True)  # log-odds log(m / (1 - m)) at the start
STEPS = sp.Symbol("j", integer=True, nonnegative=True)
COUNT = sp.Symbol("T", integer=True, positive=True)
DELTA = sp.KroneckerDelta
SPREAD = M * LESS  # pi_0 pi_1
Y, Z = sp.symbols("y z", positive=True)
GENERATING = (M * Z + LESS * Y) ** GROUP  # of the numbers of the two outcomes in a group
SQUARE = GAP**2 * SPREAD * ((GROUP - 2) * (GROUP - 3) * SPREAD + GROUP - 1) / (GROUP * (GROUP - 1))
CLIMB = COUNT + sp.sinh(COUNT * ETA * GAP / 2) * sp.cosh(START + (COUNT - 1) * ETA * GAP / 2) / sp.sinh(ETA * GAP / 2)
SELECTION = GROUP * GAP / (ETA * REWARD**2)
END, BACK = sp.symbols("L s", positive=True)
GROUP_OF_N = say("any group of {} samples, two or more", N)
TWO = say("two outcomes, any {} from two on", GROUP)
PAIRS = say("two outcomes, {}", runs(GROUP, [2]))
SINGLES = say("two outcomes, {}", runs(GROUP, [1]))
DIFFUSION = say("the diffusion approximation")


def finite_samples(
    d: Derivation,
    *,
    drift: int = 1,
    square: sp.Expr = SQUARE,
    moves: sp.Expr = GROUP,
    climb: sp.Expr = CLIMB,
    selection: sp.Expr = SELECTION,
) -> None:
    """Derive the moments of an update, its freezing at the vertices, and the times and odds of two outcomes.

    Args:
        d: Takes the steps.
        drift: Claimed multiple of eta grad J in the mean of an update.
        square: Claimed mean square of RLOO's estimate for two outcomes (either logit).
        moves: Claimed limit of P(an update moves) / (1 - pi_max) at a vertex.
        climb: Claimed mean time of RLOO with G = 2 to climb T steps.
        selection: Claimed exponent of the fixation probability per unit of log-odds.
    """
    unbiased = _moments(d, drift)
    freezes = _freezes(d, moves)
    moments = _two_outcomes(d, drift, square)
    waits, climbs = _climbing(d, climb)
    leaves = _leaves_again(d)
    reach = _diffusion(d, selection)
    numbers.compare_moments(d, drift, sp.lambdify((M, LESS, GAP, GROUP), square), moments[1])
    numbers.compare_climb(d, sp.lambdify((START, ETA, GAP, COUNT), climb), climbs)
    numbers.compare_fixation(d, sp.lambdify((GAP, ETA, REWARD, GROUP), selection), reach[0])
    d.state(
        "The estimate from samples has the gradient as mean, {}, and a variance that is known exactly, for RLOO on two "
        "outcomes {}. RLOO's is zero for a group of equal outcomes, so near a vertex it moves with a probability of "
        "first order there, {}. On two outcomes with fixed rewards it moves {}; in pairs a step of the log-odds at {} "
        "takes {} updates on average. REINFORCE without a baseline can move to the wrong vertex: in the diffusion "
        "approximation it reaches one end of the log-odds before the other with {}, for {}; {}, so with rewards of one "
        "sign {} it {} again.",
        unbiased, moments[1], freezes, moments[2], sp.Symbol("x"), waits, reach[0], reach[1], leaves[0],
        sp.Gt(sp.Symbol("c", positive=True), 0, evaluate=False), leaves[1],
    )  # fmt: skip


def _moments(d: Derivation, drift: int) -> Any:
    gradient = PI[J] * (R[J] - mean(R[I]))
    unbiased = d.equal(
        say("REINFORCE's estimate from one sample has the gradient as mean: the drift of an update."),
        total(PI[I] * R[I] * (DELTA(I, J) - PI[J])),
        drift * Short("dJ/dtheta_j", gradient),
        name="E[g_j]",
        scope=ANY_N,
    )
    second = total(PI[I] * R[I] ** 2 * (DELTA(I, J) - PI[J]) * (DELTA(I, K) - PI[K]))
    d.equal(
        say("Its second moments. The covariance of an update is these less the product of the means, by {}.",
            Short("eta^2/G", ETA**2 / GROUP)),
        second,
        DELTA(J, K) * PI[J] * R[J] ** 2 - PI[J] * PI[K] * (R[J] ** 2 + R[K] ** 2 - mean(R[I] ** 2)),
        name="E[g_j g_k]",
        scope=ANY_N,
    )  # fmt: skip
    average = Short("mean R", total(R[I]) / N)
    d.equal(
        say("RLOO's advantage in a group of {} samples: the deviation from the group's mean, and a factor.", N),
        R[K] - (total(R[I]) - R[K]) / (N - 1),
        N / (N - 1) * (R[K] - average),
        name="A_k",
        scope=GROUP_OF_N,
    )
    d.equal(
        say("These sum to zero, so the policy cancels in the estimate: RLOO moves sampled logits only."),
        total(R[I] - average.value.subs(I, J)),
        0,
        scope=GROUP_OF_N,
    )
    pair = total(total(PI[I] * PI[K] * (R[I] - R[K]) ** 2 * (1 - DELTA(I, K)), K)) / 2
    d.equal(
        say("In pairs, {}, its mean square is the variance of the reward.", runs(GROUP, [2])),
        pair,
        mean(R[I] ** 2) - mean(R[I]) ** 2,
        given=NORMALISED,
        scope=ANY_N,
    )
    return unbiased


def _freezes(d: Derivation, moves: sp.Expr) -> Any:
    off = sp.Symbol("epsilon", positive=True)
    d.equal(
        say("A group of one and the same outcome has advantages zero and does not move the policy."),
        R[K] - total(R[I]) / N,
        0,
        given={total(R[I]): N * R[K]},
        scope=say("RLOO, any {} from two on", GROUP),
    )
    moved = Short("P(moves)", 1 - (1 - off) ** GROUP)
    freezes = d.limit(
        say("Near a vertex, where all other outcomes have {} together, a group is of that one outcome but for this "
            "chance. It is of first order: vertices hold the process the longer the nearer it is.", off),
        moved / off,
        off,
        0,
        moves,
        scope=ANY_N,
    )  # fmt: skip
    more, odds = sp.Symbol("m", integer=True, nonnegative=True), sp.Symbol("g", positive=True)
    excess = Short("slack", GROUP * off - moved)
    put = {GROUP: 1 + more}
    d.equal(
        say("And it is no more than that order says, as the difference {} begins at zero and has this slope.", excess),
        sp.Derivative(excess, off),
        GROUP * (1 - (1 - off) ** (GROUP - 1)),
        where=put,
        scope=say("any {}", GROUP),
    )
    d.has_sign(
        say("The slope has this sign: that of the logarithm of what {} samples more leave, turned.", more),
        -sp.log((1 - off) ** more),
        "nonnegative",
        by=more * sp.log(1 + odds),
        where={off: 1 - 1 / (1 + odds)},
        scope=say("any {}", GROUP),
    )  # fmt: skip
    return freezes


def count_moment(power: int) -> sp.Expr:
    """Return E[K^power (G - K)^power], K binomial: how many of G samples are the better outcome."""
    found = GENERATING
    for _ in range(power):
        found = Z * sp.diff(Y * sp.diff(found, Y), Z)
    at_one = found.subs({Y: 1, Z: 1})
    return sp.simplify(at_one.subs(M + LESS, 1).subs(LESS, 1 - M))


def _two_outcomes(d: Derivation, drift: int, square: sp.Expr) -> tuple[Any, Any, Any]:
    right, wrong = sp.symbols("k_0 k_1", integer=True, nonnegative=True)
    scale = GAP / (GROUP * (GROUP - 1))
    first = d.equal(
        say("Two outcomes, rewards {} apart: with {} and {} samples of them RLOO's estimate is {} on the better logit "
            "and its opposite on the other. Its mean, by the generating function {}.", GAP, right, wrong,
            Short("g_0", right * wrong * scale), Short("phi", GENERATING)),
        count_moment(1) * scale,
        drift * GAP * M * (1 - M),
        name="E[g]",
        scope=TWO,
    )  # fmt: skip
    second = d.equal(
        say("Its mean square, with {} for the chance of the worse outcome.", LESS),
        count_moment(2) * scale**2,
        square,
        name="E[g^2]",
        where={LESS: 1 - M},
        scope=TWO,
    )
    d.limit(
        say("Near a vertex the relative variance has this order: plateaus are where the noise is most."),
        M * (square.subs(LESS, 1 - M) / (GAP * M * (1 - M)) ** 2 - 1),
        M,
        0,
        1 / GROUP,
        scope=TWO,
    )
    move = Short("g_0", right * wrong * GAP)
    way = by_sign(right * wrong * GAP, "only towards the better one", "only away from it")
    d.has_sign(
        say("A group moves {}, and a mixed one by no less than a fixed amount: with a fixed reward RLOO does not end at"
            " the wrong one of two outcomes.", way),
        move,
        "nonnegative",
        scope=TWO,
    )  # fmt: skip
    return first, second, way


def _climbing(d: Derivation, climb: sp.Expr) -> tuple[Any, Any]:
    x = sp.Symbol("x", real=True)
    waits = d.equal(
        say("In pairs the log-odds {} climb a ladder, a step each time that a pair is mixed. The mean time for one: "
            "exponential in the distance from even odds.", x),
        1 / (2 * M * (1 - M)),
        1 + sp.cosh(x),
        by=sp.expand((1 / (2 * M * (1 - M))).subs(M, 1 / (1 + sp.exp(-x)))),
        where={M: 1 / (1 + sp.exp(-x))},
        name="E[wait]",
        scope=PAIRS,
    )  # fmt: skip
    level = START + COUNT * ETA * GAP
    time = Short("E[T]", climb)
    d.equal(say("No time for no step."), sp.Subs(time, COUNT, 0), 0, scope=PAIRS)
    factor = sp.sinh(ETA * GAP / 2)
    d.equal(
        say("The mean time for {} steps: one more takes the time of the step from that level, so this is the sum, by "
            "induction.", COUNT),
        (sp.Subs(time, COUNT, COUNT + 1) - time) * factor,
        (1 + sp.cosh(level)) * factor,
        scope=PAIRS,
    )  # fmt: skip
    return waits, time.definition


def _leaves_again(d: Derivation) -> tuple[Any, Any]:
    step, z, t = sp.Symbol("c", positive=True), sp.Symbol("z", positive=True), sp.Symbol("t", positive=True)
    odds = sp.Symbol("y", positive=True)
    bound = z * sp.exp(z) - sp.exp(z) + 1
    d.equal(
        say("REINFORCE without a baseline, one reward for both, single samples: drawing the heavy outcome gives its "
            "odds {} a factor, the exponential of {} with {}. To bound that: this begins at zero and has a slope of "
            "one sign.", odds, Short("z", step / (1 + odds)), Short("c", 2 * ETA * REWARD)),
        sp.Derivative(bound, z),
        z * sp.exp(z),
    )  # fmt: skip
    gap: Any = sp.factor(sp.simplify(step - odds * step / (1 + odds)))
    d.has_sign(
        say("So the odds gain in a draw no more than a fixed amount: at best linear in the number {} of draws.", t),
        step - odds * step / (1 + odds),
        "positive",
        by=gap,
    )
    worst = 1 + odds + t * step * sp.exp(step)
    total_chance = Short("sum of chances", sp.log(worst) - sp.log(1 + odds))
    d.equal(
        say(
            "The other outcome then has no less than {}, and a sum of these is no less than their integral, here up to "
            "a factor.",
            1 / worst,
        ),
        sp.Derivative(total_chance, t),
        step * sp.exp(step) / worst,
        scope=SINGLES,
    )
    back = by_value(sp.Limit(total_chance.value, t, sp.oo), "leaves")
    leaves = d.limit(
        say("It has no bound, so the process {} the vertex again with probability one: a vertex holds it, but not for "
            "good.", back),
        total_chance,
        t,
        sp.oo,
        sp.oo,
        scope=SINGLES,
    )  # fmt: skip
    return leaves, back


def _diffusion(d: Derivation, selection: sp.Expr) -> tuple[Any, Any]:
    x = sp.Symbol("x", real=True)
    up, down = 2 * ETA * (REWARD + GAP) * (1 - M), -2 * ETA * REWARD * M  # of the log-odds
    two = say("two outcomes")
    d.equal(
        say("REINFORCE, rewards {} and {}: the mean change of the log-odds by one sample.", REWARD + GAP, REWARD),
        M * up + (1 - M) * down,
        2 * ETA * GAP * M * (1 - M),
        name="drift",
        scope=two,
    )
    d.equal(
        say("An update averages {} such changes, independent of each other: the same mean, and, for equal rewards, "
            "this variance, which is also that of rewards nearly so.", GROUP),
        GROUP * (M * up**2 + (1 - M) * down**2).subs(GAP, 0) / GROUP**2,
        4 * ETA**2 * REWARD**2 * M * (1 - M) / GROUP,
        name="variance",
        scope=TWO,
    )  # fmt: skip
    reach = Short("h", (1 - sp.exp(-selection * (x + END))) / (1 - sp.exp(-2 * selection * END)))
    drift, spread = 2 * ETA * GAP, 2 * ETA**2 * REWARD**2 / GROUP
    d.equal(
        say("The diffusion with this drift and variance, started at {}, reaches {} before its opposite with a "
            "probability {} that solves the backward equation (a common factor is left out).", x, END, reach),
        drift * sp.Derivative(reach, x) + spread * sp.Derivative(reach, (x, 2)),
        0,
        scope=DIFFUSION,
    )  # fmt: skip
    d.equal(say("At the other end it is lost."), sp.Subs(reach, x, -END), 0, scope=DIFFUSION)
    d.equal(say("At this end it is certain."), sp.Subs(reach, x, END), 1, scope=DIFFUSION)
    d.equal(
        say("Without a difference in reward the log-odds have no drift, and chance decides."),
        sp.Limit(reach, GAP, 0),
        (x + END) / (2 * END),
        scope=DIFFUSION,
    )
    named = Short("h", (1 - sp.exp(-BACK * (x + END))) / (1 - sp.exp(-2 * BACK * END)))
    exponent = Short("s", selection)
    stated = d.equal(
        say("In terms of the selection {} that the difference makes.", exponent),
        reach,
        named.value,
        where={BACK: selection},
        scope=DIFFUSION,
    )
    return stated, exponent.definition


T13 = Theorem("T13", "Finite samples", finite_samples)
