"""T13: the process of sampled updates: its drift and variance, and what the vertices do to it.

Proved: the moments of one step, that RLOO on two outcomes never steps the wrong way, how long it takes, that it freezes
near a vertex, and that REINFORCE with a positive reward leaves every vertex again. The probability of reaching one end
before the other is that of the diffusion with the same drift and variance; the process itself is compared with it
numerically.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from sharpen.theory.proofs import finite_samples_numbers as numbers
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
SQUARE = GAP**2 * SPREAD * ((GROUP - 2) * (GROUP - 3) * SPREAD + GROUP - 1) / (GROUP * (GROUP - 1))
CLIMB = COUNT + sp.sinh(COUNT * ETA * GAP / 2) * sp.cosh(START + (COUNT - 1) * ETA * GAP / 2) / sp.sinh(ETA * GAP / 2)
SELECTION = GROUP * GAP / (ETA * REWARD**2)


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
    _moments(d, drift)
    _freezes(d, moves)
    _two_outcomes(d, drift, square)
    _climbing(d, climb)
    _leaves_again(d)
    _diffusion(d, selection)
    numbers.compare_moments(d, drift, sp.lambdify((M, LESS, GAP, GROUP), square))
    numbers.compare_climb(d, sp.lambdify((START, ETA, GAP, COUNT), climb))
    numbers.compare_fixation(d, sp.lambdify((GAP, ETA, REWARD, GROUP), selection))


def _moments(d: Derivation, drift: int) -> None:
    gradient = PI[J] * (R[J] - mean(R[I]))
    d.equal(
        "REINFORCE's estimate R(x)(e_x - pi) of one sample has the gradient as mean: the drift of an update.",
        total(PI[I] * R[I] * (DELTA(I, J) - PI[J])),
        drift * gradient,
        scope=ANY_N,
    )
    second = total(PI[I] * R[I] ** 2 * (DELTA(I, J) - PI[J]) * (DELTA(I, K) - PI[K]))
    d.equal(
        "Its second moments. The covariance of an update is eta^2 / G times these less the product of the means.",
        second,
        DELTA(J, K) * PI[J] * R[J] ** 2 - PI[J] * PI[K] * (R[J] ** 2 + R[K] ** 2 - mean(R[I] ** 2)),
        scope=ANY_N,
    )
    average = total(R[I]) / N
    d.equal(
        "RLOO's advantage in a group of n samples: the deviation from the group's mean, times n / (n - 1).",
        R[K] - (total(R[I]) - R[K]) / (N - 1),
        N / (N - 1) * (R[K] - average),
        scope="any group of n >= 2 samples",
    )
    d.equal(
        "These sum to zero, so the policy cancels in sum A_i (e_{x_i} - pi): RLOO moves sampled logits only.",
        total(R[I] - average.subs(I, J)),
        0,
        scope="any group of n >= 2 samples",
    )
    pair = total(total(PI[I] * PI[K] * (R[I] - R[K]) ** 2 * (1 - DELTA(I, K)), K)) / 2
    d.equal(
        "With G = 2 the estimate is (R_1 - R_2)(e_1 - e_2) / 2, and its mean square is the variance of the reward.",
        pair,
        mean(R[I] ** 2) - mean(R[I]) ** 2,
        given=NORMALISED,
        scope=ANY_N,
    )


def _freezes(d: Derivation, moves: sp.Expr) -> None:
    off = sp.Symbol("epsilon", positive=True)
    d.equal(
        "A group of one and the same outcome has advantages zero and does not move the policy.",
        (R[K] - total(R[I]) / N),
        0,
        given={total(R[I]): N * R[K]},
        scope="RLOO, any G >= 2",
    )
    d.limit(
        "At 1 - epsilon on one outcome a group is of it alone with probability (1 - epsilon)^G: an update moves with "
        "probability about G epsilon. The vertices hold the process the longer the nearer it is.",
        (1 - (1 - off) ** GROUP) / off,
        off,
        0,
        moves,
        scope=ANY_N,
    )
    more, odds = sp.Symbol("m", integer=True, nonnegative=True), sp.Symbol("g", positive=True)
    d.equal(
        "It is never more than G epsilon: the difference is 0 at epsilon = 0 and has this slope.",
        sp.diff(GROUP * off - 1 + (1 - off) ** GROUP, off).subs(GROUP, 1 + more),
        (1 + more) * (1 - (1 - off) ** more),
        shown=sp.Derivative(GROUP * off - 1 + (1 - off) ** GROUP, off),
        scope="G = 1 + m",
    )
    d.has_sign(
        "The slope is not negative, as (1 - epsilon)^m <= 1: with 1 - epsilon = 1 / (1 + g), -log of it.",
        more * sp.log(1 + odds),
        "nonnegative",
        scope="G = 1 + m",
    )


def _two_outcomes(d: Derivation, drift: int, square: sp.Expr) -> None:
    y, z = sp.symbols("y z", positive=True)
    generating = (M * z + LESS * y) ** GROUP

    def moment(power: int) -> sp.Expr:
        """Return E[K^power (G - K)^power], K binomial."""
        found = generating
        for _ in range(power):
            found = z * sp.diff(y * sp.diff(found, y), z)
        at_one = found.subs({y: 1, z: 1})
        return sp.simplify(at_one.subs(M + LESS, 1).subs(LESS, 1 - M))

    shown = sp.Symbol("E[g]"), sp.Symbol("E[g^2]")
    d.equal(
        "Two outcomes, R_0 - R_1 = Delta: with k of G samples right RLOO's estimate is k (G - k) Delta / (G (G - 1)) "
        "on logit 0 and minus that on logit 1. Its mean, by the generating function of k.",
        moment(1) * GAP / (GROUP * (GROUP - 1)),
        drift * GAP * M * (1 - M),
        shown=shown[0],
        scope="any G >= 2, n = 2",
    )
    d.equal(
        "Its mean square.",
        moment(2) * (GAP / (GROUP * (GROUP - 1))) ** 2,
        square.subs(LESS, 1 - M),
        shown=shown[1],
        scope="any G >= 2, n = 2",
    )
    d.limit(
        "Near a vertex the relative variance grows like 1 / (G m): plateaus are where the noise is largest.",
        M * (square.subs(LESS, 1 - M) / (GAP * M * (1 - M)) ** 2 - 1),
        M,
        0,
        1 / GROUP,
        scope="any G >= 2, n = 2",
    )
    right, wrong = sp.symbols("k_0 k_1", integer=True, nonnegative=True)
    d.has_sign(
        "No group moves against the better outcome, and mixed ones, of probability 1 - m^G - (1 - m)^G, move towards "
        "it by at least a fixed amount: with a fixed reward RLOO never ends at the wrong one of two outcomes.",
        right * wrong * GAP,
        "nonnegative",
        shown=right * (GROUP - right) * GAP,
        scope="any G >= 2, n = 2",
    )


def _climbing(d: Derivation, climb: sp.Expr) -> None:
    level = START + STEPS * ETA * GAP
    m = 1 / (1 + sp.exp(-level))
    d.equal(
        "With G = 2 the log-odds x climb a ladder of steps eta Delta, each taken with probability 2 m (1 - m). The "
        "mean time for one is 1 + cosh x: exponential in the distance from even odds.",
        1 / (2 * m * (1 - m)),
        1 + sp.cosh(level).rewrite(sp.exp),
        shown=1 / (2 * M * (1 - M)),
        scope="n = 2, G = 2",
    )
    increment = climb.subs(COUNT, COUNT + 1) - climb
    d.equal("No time for no step.", climb.subs(COUNT, 0), 0, scope="n = 2, G = 2")
    d.equal(
        "The mean time for T steps: one more adds the time of the step from level T, so this is the sum, by induction.",
        sp.expand((increment * sp.sinh(ETA * GAP / 2)).rewrite(sp.exp)),
        sp.expand(((1 + sp.cosh(level.subs(STEPS, COUNT))) * sp.sinh(ETA * GAP / 2)).rewrite(sp.exp)),
        shown=increment,
        scope="n = 2, G = 2",
    )


def _leaves_again(d: Derivation) -> None:
    step, z, t = sp.Symbol("c", positive=True), sp.Symbol("z", positive=True), sp.Symbol("t", positive=True)
    odds = sp.Symbol("y", positive=True)
    d.equal(
        "REINFORCE without a baseline, reward R > 0 on both, G = 1: drawing the heavy outcome multiplies its odds y by "
        "exp(c / (1 + y)), c = 2 eta R. To bound that: z exp(z) - exp(z) + 1 is 0 at z = 0 and rises.",
        sp.diff(z * sp.exp(z) - sp.exp(z) + 1, z),
        z * sp.exp(z),
    )
    bound: Any = sp.factor(sp.simplify(step - odds * step / (1 + odds)))
    d.has_sign(
        "So y (exp(c / (1 + y)) - 1) <= y c / (1 + y) exp(c / (1 + y)), which is below c exp(c): y grows at most "
        "linearly in the number t of draws.",
        bound,
        "positive",
        shown=step - odds * step / (1 + odds),
    )
    d.limit(
        "The other outcome then has at least 1 / (1 + y_0 + t c exp(c)). The sum of these diverges, so it is drawn "
        "again with probability one: a vertex holds the process, but never for good.",
        sp.log(1 + odds + t * step * sp.exp(step)) - sp.log(1 + odds),
        t,
        sp.oo,
        sp.oo,
        scope="n = 2, G = 1; the sum is at least the integral, which is this over c exp(c)",
    )


def _diffusion(d: Derivation, selection: sp.Expr) -> None:
    x, end = sp.Symbol("x", real=True), sp.Symbol("L", positive=True)
    up, down = 2 * ETA * (REWARD + GAP) * (1 - M), -2 * ETA * REWARD * M  # of the log-odds
    d.equal(
        "REINFORCE, rewards R + Delta and R: the mean change of the log-odds by one sample.",
        M * up + (1 - M) * down,
        2 * ETA * GAP * M * (1 - M),
        scope="n = 2",
    )
    d.equal(
        "An update adds G such changes over G, independent of each other: the same mean, and at Delta = 0 this "
        "variance, which is also that for Delta much smaller than |R|.",
        GROUP * (M * up**2 + (1 - M) * down**2).subs(GAP, 0) / GROUP**2,
        4 * ETA**2 * REWARD**2 * M * (1 - M) / GROUP,
        scope="n = 2, any G",
    )
    reach = (1 - sp.exp(-selection * (x + end))) / (1 - sp.exp(-2 * selection * end))
    backward = 2 * ETA * GAP * sp.diff(reach, x) + 2 * ETA**2 * REWARD**2 / GROUP * sp.diff(reach, x, 2)
    d.equal(
        "The diffusion with this drift and variance reaches x = L before -L with a probability h that solves the "
        "backward equation (the common factor m (1 - m) is left out).",
        backward,
        0,
        shown=2 * ETA * GAP * sp.Derivative(sp.Symbol("h"), x)
        + 2 * ETA**2 * REWARD**2 / GROUP * sp.Derivative(sp.Symbol("h"), (x, 2)),
        scope="the diffusion approximation",
    )
    d.equal("It is 0 at -L.", reach.subs(x, -end), 0, scope="the diffusion approximation")
    d.equal("It is 1 at L.", reach.subs(x, end), 1, scope="the diffusion approximation")
    d.equal(
        "Without a difference in reward the log-odds have no drift, and chance decides.",
        sp.limit(reach, GAP, 0),
        (x + end) / (2 * end),
        shown=sp.Limit(reach, GAP, 0),
        scope="the diffusion approximation",
    )


T13 = Theorem(
    "T13",
    "Finite samples",
    "An update from G samples has the mean eta grad J and a variance of order eta^2 / G, known exactly. RLOO's "
    "vanishes for a group of equal outcomes, so near a vertex it moves with a probability of at most G (1 - pi_max). "
    "On two outcomes with fixed rewards it never moves the wrong way; with G = 2 each step of the log-odds x takes "
    "1 + cosh x updates on average. REINFORCE without a baseline can move to the wrong vertex: the diffusion "
    "approximation gives the probability of reaching x = L before -L, and with positive rewards no vertex holds it "
    "for good.",
    r"E[\delta\theta] = \eta \nabla J, \quad P(\delta\theta \ne 0) \le G(1 - \pi_{\max}), \quad "
    r"E[\text{time of a step at } x] = 1 + \cosh x, \quad "
    r"P(L \text{ before } -L) \approx \frac{1 - e^{-s(x + L)}}{1 - e^{-2sL}},\ s = \frac{G \Delta}{\eta R^2}",
    finite_samples,
)
