"""T21, T22, T23 and T25: what base samples say of sharpening, how often it turns, and what it costs."""

from __future__ import annotations

import itertools
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, runs
from sharpen.theory.proofs.numbers import forecast as numbers
from sharpen.theory.proofs.numbers.forecast import ALPHA, changes_of_sign
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, NORMALISED, PI, I, J, R, mean, total

GAP, STEP = sp.symbols("g t", positive=True)
SAMPLES = sp.Symbol("k", integer=True, positive=True)
LEVEL, MIDDLE = sp.symbols("c m", real=True)
C: Any = sp.IndexedBase("c", real=True)  # p times the calibration curve less a level
H: Any = sp.IndexedBase("h", real=True)  # a direction
BASE: Any = sp.exp(LOG_P[I])
REFERENCE = {total(BASE): sp.Integer(1)}
HALF = sp.Rational(1, 2)
SHARPENED = total(sp.exp(ALPHA * LOG_P[I]))


def _sharp(values: Any) -> Any:
    """Return E[values] under the power of the reference, values depending on the index i."""
    return total(sp.exp(ALPHA * LOG_P[I]) * values) / SHARPENED


def _covariance(one: Any, other: Any) -> Any:
    """Return the covariance of two values under the policy pi."""
    return mean(one * other) - mean(one) * mean(other)


def base_samples(
    d: Derivation, *, power: sp.Expr = ALPHA - 1, inflation: sp.Expr = 2 * ALPHA - 1, pairs: int = 1
) -> None:
    """Derive the forecast from samples of the reference.

    Args:
        d: Takes the steps.
        power: Claimed exponent of p in a sample's weight.
        inflation: Claimed exponent of p in the weights' mean square.
        pairs: Claimed factor of the sample covariance's mean.
    """
    weight = sp.exp(power * LOG_P[I])
    forecast = d.equal(
        say("A sample of the reference with the weight {} has, in the mean, the sharpened policy's reward.", weight),
        total(BASE * weight * R[I]) / total(BASE * weight),
        Short("E[r]", _sharp(R[I])),
        scope=ANY_N,
    )
    size = d.equal(
        say("So many samples count as one: the weights' mean square over the square of their mean."),
        total(BASE * weight**2) / total(BASE * weight) ** 2,
        total(sp.exp(inflation * LOG_P[I])) / SHARPENED**2,
        scope=ANY_N,
    )
    score = weight * (R[I] - LEVEL) / total(BASE * weight)
    d.equal(
        say("To first order the estimate errs by the mean of weighted differences from the value {}, whose own mean is "
            "this difference.", LEVEL),
        total(BASE * score),
        Short("E[r]", _sharp(R[I])) - LEVEL,
        scope=ANY_N,
    )  # fmt: skip
    d.equal(
        say("Of two independent draws the product of the differences in reward and in log-likelihood, over {}, has "
            "their covariance as its mean.", 2),
        mean(mean((R[I] - R[J]) * (LOG_P[I] - LOG_P[J]), J)) / 2,
        pairs * Short("Cov(r, log p)", _covariance(R[I], LOG_P[I])),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    _sample_covariance(d)
    slope = d.equal(
        say("At the reference itself this covariance is what a little sharpening does."),
        sp.Subs(sp.Derivative(Short("E[r]", _sharp(R[I])), ALPHA), ALPHA, 1),
        Short("Cov_p(r, log p)", total(BASE * R[I] * LOG_P[I]) - total(BASE * R[I]) * total(BASE * LOG_P[I])),
        given=REFERENCE,
        scope=ANY_N,
    )
    numbers.compare_samples(d, power, inflation, forecast, size)
    d.state(
        "Samples of the reference forecast the sharpened policy, {}, and so many of them count as one: {}. Their "
        "covariance of reward and log-likelihood has as its mean the slope at the reference, {}.",
        forecast, size, slope,
    )  # fmt: skip


def _sample_covariance(d: Derivation) -> None:
    """Write the sample covariance as a mean over pairs, for a few sizes."""
    sizes, cases = runs(sp.Symbol("N"), (2, 3, 4, 5)), []
    for n in sizes:
        x, y = sp.symbols(f"x_1:{n + 1}"), sp.symbols(f"y_1:{n + 1}")
        middle = sum(x) / n, sum(y) / n
        sample = sum((a - middle[0]) * (b - middle[1]) for a, b in zip(x, y, strict=True)) / (n - 1)
        differences = [(x[i] - x[j]) * (y[i] - y[j]) / 2 for i, j in itertools.combinations(range(n), 2)]
        cases.append((sample, sum(differences) / len(differences)))
    words = say("The sample covariance, with one less than the number of samples under the sum, is the mean of these "
                "over all pairs: so it has the same mean.")  # fmt: skip
    d.cases(words, sp.Symbol("N"), cases, say("{}", sizes), again=True)


def variation(d: Derivation, *, fewer: int = 1, shift: sp.Expr = MIDDLE) -> None:
    """Derive that the response of E[r] turns no more often than the calibration curve.

    Args:
        d: Takes the steps.
        fewer: Claimed number of sign changes that a differentiation takes away.
        shift: Claimed likelihood at which the factor of a term changes its sign.
    """
    curve = Short("D", total(C[I] * sp.exp(ALPHA * LOG_P[I])))
    gap = d.equal(
        say("The sharpened policy's expected reward less a level {}, multiplied by its normaliser: a sum of "
            "exponentials with the coefficients {}, the reference's mass under each likelihood with its mean reward "
            "less the level.",
            LEVEL, C[I]),
        SHARPENED * (_sharp(R[I]) - LEVEL),
        total((R[I] - LEVEL) * sp.exp(ALPHA * LOG_P[I])),
        scope=ANY_N,
    )  # fmt: skip
    slope = d.equal(
        say(
            "Put the zero of {} where the coefficients change their sign, take out the exponential and differentiate: "
            "each term gets the sign of its distance from there.",
            LOG_P[I] - shift,
        ),
        sp.Derivative(sp.exp(-ALPHA * MIDDLE) * curve, ALPHA),
        total(C[I] * (LOG_P[I] - shift) * sp.exp(ALPHA * (LOG_P[I] - MIDDLE))),
        scope=ANY_N,
    )
    lengths = runs(sp.Symbol("s"), (2, 3, 4, 5, 6, 7))
    verdicts = []
    for n in lengths:
        for signs in itertools.product((-1, 1), repeat=n):
            places = [i for i in range(1, n) if signs[i] != signs[i - 1]]
            verdicts += [
                changes_of_sign([x * (1 if i >= place else -1) for i, x in enumerate(signs)])
                == changes_of_sign(signs) - fewer
                for place in places
            ]
    changes = Short("V_before", sp.Symbol("v", integer=True, positive=True))
    counted = d.check(
        say("So the coefficients of the derivative change their sign once less, whichever change was taken. Between "
            "two zeros of a function its derivative has one (Rolle), and a sum without a change has none: the sum "
            "has no more zeros than its coefficients have changes."),
        sp.Eq(sp.Symbol("V_after"), changes - fewer, evaluate=False),
        verdicts,
        say("all signs of so many likelihoods, {}, at every change", lengths),
    )  # fmt: skip
    weight: Any = sp.IndexedBase("c", positive=True)
    d.has_sign(
        say("Coefficients {} of one sign give every term that sign, so such a sum has no zero: the induction starts.",
            weight[I]),
        weight[I] * sp.exp(ALPHA * LOG_P[I]), "positive", scope=ANY_N,
    )  # fmt: skip
    term = PI[I] * PI[J] * GAP * STEP
    rise = by_sign(term, "help", "hurt")
    d.has_sign(
        say("Where the chance of being right goes up with the likelihood, the differences {} and {} of a pair go the "
            "same way, and this is its part of the covariance, the slope of the response: sharpening can only {}.",
            GAP, STEP, rise),
        term, "nonnegative", scope=ANY_N,
    )  # fmt: skip
    numbers.compare_turns(d, gap)
    d.state(
        "{}, and as {} and {}, by induction the response to the exponent crosses a level no more often than the "
        "calibration curve does: where the chance of being right goes up with the likelihood, sharpening can only "
        "{}.",
        gap, slope, counted, rise,
    )  # fmt: skip


def equal_budget(d: Derivation, *, gain: int = 1, cost: sp.Expr = HALF) -> None:
    """Derive the price of accuracy.

    Args:
        d: Takes the steps.
        gain: Claimed factor of the covariance in the first change of E[r] along a direction.
        cost: Claimed factor of the direction's variance in the divergence, to second order.
    """
    weights = sp.exp(LOG_P[I] + STEP * H[I])
    reached = Short("E_t[r]", total(weights * R[I]) / total(weights))
    under = {name: total(BASE * value) for name, value in (("r", R[I]), ("h", H[I]), ("rh", R[I] * H[I]))}
    covariance = Short("Cov_p(r, h)", under["rh"] - under["r"] * under["h"])
    variance = Short("Var_p(h)", total(BASE * H[I] ** 2) - under["h"] ** 2)
    first = d.equal(
        say("Tilt the reference in a direction {}, by {}: what the expected reward gains at first.", H[I], STEP),
        sp.Subs(sp.Derivative(reached, STEP), STEP, 0),
        gain * covariance,
        given=REFERENCE,
        scope=ANY_N,
    )
    spent = Short("KL_t", STEP * total(weights * H[I]) / total(weights) - sp.log(total(weights)))
    d.equal(say("The divergence from the reference starts flat."), sp.Subs(sp.Derivative(spent, STEP), STEP, 0), 0,
            given=REFERENCE, scope=ANY_N)  # fmt: skip
    second = d.equal(
        say("And bends with the direction's variance."),
        sp.Subs(sp.Derivative(spent, (STEP, 2)), STEP, 0) / 2,
        cost * variance,
        given=REFERENCE,
        scope=ANY_N,
    )
    x, y, correlation = sp.symbols("x y rho", positive=True)
    ratio = d.equal(
        name="ratio",
        text=say("With the deviations {} of the reward and {} of the direction and their correlation {}: the gain by "
            "the direction over the gain by the reward itself, each divided by the root of what it spends.",
            x, y, correlation),
        left=(gain * correlation * x * y / sp.sqrt(cost * y**2)) / (gain * x**2 / sp.sqrt(cost * x**2)),
        right=correlation,
    )  # fmt: skip
    bound = _coins(d)
    numbers.compare_prices(d, ratio, bound)
    d.state(
        "A small step in a direction gains {} and spends {} of the square of the step. For the same small divergence "
        "the gain by sharpening, whose direction is the log-likelihood, over the gain by the reward is {}. And no "
        "policy raises accuracy beyond what its divergence buys: {}.",
        first, second, ratio, bound,
    )  # fmt: skip


def _coins(d: Derivation) -> Any:
    """Split a divergence into that of the accuracies and those inside right and wrong; return the equation."""
    a, b = sp.symbols("A B", positive=True)
    member: Any = sp.IndexedBase("s", nonnegative=True)
    within = mean(member[I] * (sp.log(PI[I]) - LOG_P[I])) - a * (sp.log(a) - sp.log(b))
    outside = mean((1 - member[I]) * (sp.log(PI[I]) - LOG_P[I])) - (1 - a) * (sp.log(1 - a) - sp.log(1 - b))
    coin = Short("kl(A || B)", a * (sp.log(a) - sp.log(b)) + (1 - a) * (sp.log(1 - a) - sp.log(1 - b)))
    split = d.equal(
        say("The divergence of a policy of accuracy {} from a reference of accuracy {}: that of two coins, and what is "
            "left among right outcomes, of members {}, and among wrong ones.", a, b, member),
        Short("KL(pi || p)", mean(sp.log(PI[I]) - LOG_P[I])) - coin,
        Short("KL_right", within) + Short("KL_wrong", outside),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    x = sp.Symbol("x", positive=True)
    term = Short("T", x * sp.log(x) - x + 1)
    d.has_sign(
        say("Each of the two is a mean of {} of ratios {} of probabilities: above one it {}.", term, x,
            by_sign(sp.log(1 + GAP), "rises", "falls")),
        sp.Subs(sp.Derivative(term, x), x, 1 + GAP), "positive",
    )  # fmt: skip
    d.has_sign(
        say("Below one it {}.", by_sign(-sp.log(1 + GAP), "rises", "falls")),
        sp.Subs(sp.Derivative(term, x), x, 1 / (1 + GAP)), "negative", by=-sp.log(1 + GAP),
    )  # fmt: skip
    d.equal(say("And at one it is this, its least value."), sp.Subs(term, x, 1), 0)
    return split


def coverage_slope(d: Derivation, *, drop: int = 1) -> None:
    """Derive the slope of pass@k in the exponent.

    Args:
        d: Takes the steps.
        drop: Claimed difference of k and the failure's power.
    """
    accuracy = Short("q", _sharp(R[I]))
    covariance = Short("Cov_q(r, log p)", _sharp(R[I] * LOG_P[I]) - _sharp(R[I]) * _sharp(LOG_P[I]))
    slope = d.equal(
        say("pass@k of a prompt, with the chance {} of a right sample under the power, follows the exponent so.",
            accuracy),
        sp.Derivative(1 - (1 - accuracy) ** SAMPLES, ALPHA),
        SAMPLES * (1 - accuracy) ** (SAMPLES - drop) * covariance,
        scope=ANY_N,
    )  # fmt: skip
    d.equal(
        say("A single draw is wrong with this mean, so a product over all but one of {} draws is an estimate of the "
            "power of the failure.", SAMPLES),
        mean(1 - R[I]),
        1 - mean(R[I]),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    d.equal(
        say("Two more draws give the covariance, by the product of their differences over {}: the mean over all "
            "choices of so many base samples estimates the slope at the reference without bias.", 2),
        mean(mean((R[I] - R[J]) * (LOG_P[I] - LOG_P[J]), J)) / 2,
        Short("Cov(r, log p)", _covariance(R[I], LOG_P[I])),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    fades = d.limit(
        say("A prompt that fails less often than another by this factor for each sample loses its part of the slope "
            "beside the other's: the prompts that are solved seldom decide where pass@k goes for many samples."),
        (1 / (1 + GAP)) ** SAMPLES,
        SAMPLES,
        sp.oo,
        0,
    )  # fmt: skip
    numbers.compare_slopes(d, slope)
    d.state(
        "Under the power pass@k has the slope {} on each prompt, and on a mix the mean of these. For few samples "
        "every prompt counts, for many those that are solved seldom: {}.",
        slope, fades,
    )  # fmt: skip


T21 = Theorem("T21", "Forecast from base samples", base_samples)
T22 = Theorem("T22", "Turns of the response", variation)
T23 = Theorem("T23", "The price of accuracy", equal_budget)
T25 = Theorem("T25", "pass@k under sharpening", coverage_slope)
