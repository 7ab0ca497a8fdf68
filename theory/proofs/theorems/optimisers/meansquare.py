"""T26: RLOO has no noise at its optimum; when gradient ascent stays there in mean square; what Adam does instead.

Proved for any number of outcomes: advantages are zero at the null and at p^alpha alike, and the update is linear in the
deviation. For tokens of two outcomes: the mean square after a step, the largest stable rate with its limits in group
size and length. For Adam: its step for gradients multiplied by a number, without and with epsilon, and the floor of
the sign step. More than two outcomes: ``theory/instability/meansquare.py``, compared with sums over every group.
"""

from __future__ import annotations

import itertools
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, runs
from sharpen.theory.proofs.numbers import meansquare as numbers
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, I, J, K, N, Z, total
from sharpen.theory.proofs.theorems.finite_samples import GROUP, M, R, count_moment

ALPHA, ETA, EPS, MORE = sp.symbols("alpha eta epsilon g", positive=True)
COUNTS: Any = sp.IndexedBase("k", nonnegative=True)  # how often each outcome is in a group
SHIFT: Any = sp.IndexedBase("u", real=True)  # logits less those of the optimum
LEVEL, X, DISTANCE = sp.symbols("c x d", real=True)  # a constant; a deviation of the log-odds
TOKENS = sp.Symbol("T", integer=True, positive=True)
FIRST, SECOND = sp.symbols("k_1 k_2", integer=True, nonnegative=True)
SCALE, MEAN, ROOT = sp.symbols("a m_t r_t", positive=True)  # of all gradients; Adam's averages
EXTRA = sp.Symbol("s", integer=True, nonnegative=True)  # samples of a group beyond two
SPREAD = M * (1 - M)
OWN = ((GROUP - 2) * (GROUP - 3) * SPREAD + GROUP - 1) / (GROUP * (GROUP - 1))  # E c^2 / SPREAD, one token's variance
NOISE = OWN + (TOKENS - 1) * SPREAD / (GROUP - 1)
BORDER = 1 / NOISE
FACTOR = 1 - 4 * ETA * SPREAD + 4 * ETA**2 * SPREAD * NOISE
TWO = say("tokens of two outcomes, any {} from two on", GROUP)


def mean_square(
    d: Derivation,
    *,
    pull: int = 1,
    across: sp.Expr = SPREAD**2 / (GROUP - 1),
    border: sp.Expr = BORDER,
    rate: sp.Expr = ETA / EPS,
    least: int = 4,
) -> None:
    """Derive when sampled RLOO stays at its optimum, under gradient ascent and under Adam.

    Args:
        d: Takes the steps.
        pull: Claimed multiple of the group's covariance that takes a deviation back.
        across: Claimed mean square of the sample covariance of two tokens' outcomes.
        border: Claimed learning rate at which the mean square keeps its size.
        rate: Claimed rate of gradient ascent that Adam becomes for gradients far below its epsilon.
        least: Claimed factor of the floor of the sign step's mean square.
    """
    silent = _no_noise(d)
    _linear(d, pull)
    factor = _two_outcomes(d, across)
    named, settles, leaves = _border(d, factor, border)
    limits = _limits(d, named)
    same, slow, gentle, floor = _adam(d, rate, least)
    numbers.compare_border(d, sp.lambdify((M, GROUP, TOKENS), border), named)
    numbers.compare_updates(d, sp.lambdify((ETA, M, GROUP, TOKENS), factor.rhs), factor)
    numbers.compare_adam(d, sp.lambdify((ETA, EPS), rate), slow)
    d.state(
        "At the optimum of the tempered objective, the null included, all advantages are zero, {}: it has no noise. "
        "Near it the noise goes with the distance. For {} tokens of two outcomes of masses {} and {}, in groups of {}, "
        "gradient ascent multiplies the mean square by {}; below {} a deviation {}, above it {}. For many samples the "
        "border is that of the exact gradient, {}; for many tokens {}. Adam without {} makes the same step of all "
        "multiples of the gradients, {}, and without memory its mean square keeps the floor {}; for gradients far "
        "below {} it is "
        "gradient ascent with {}, {}.",
        silent, TOKENS, M, 1 - M, GROUP, factor, named, settles, leaves, limits[0], limits[1],
        EPS, same, floor, EPS, gentle, slow,
    )  # fmt: skip


def _no_noise(d: Derivation) -> Any:
    d.equal(
        say("At the optimum an outcome has the likelihood that stands here in the logarithm, and the pseudo-reward is "
            "the same for all outcomes, whatever the power. (At the null, the power {}, the optimum is the base.)", 1),
        ALPHA * LOG_P[K] - sp.log(sp.exp(ALPHA * LOG_P[K]) / Z),
        sp.log(Z),
        name="R_k",
        scope=ANY_N,
    )  # fmt: skip
    return d.equal(
        say("So RLOO's advantage is zero in every group, and with it the gradient and its noise."),
        R[K] - (total(R[I]) - R[K]) / (N - 1),
        0,
        given={total(R[I]): N * R[K]},
        name="A_k",
        scope=say("any group of {} samples, two or more", N),
    )


def _linear(d: Derivation, pull: int) -> None:
    average = total(COUNTS[I] * (LEVEL - SHIFT[I])) / GROUP
    covariance = (sp.KroneckerDelta(J, I) * COUNTS[J] - COUNTS[J] * COUNTS[I] / GROUP) / (GROUP - 1)
    d.equal(
        say("Logits off the optimum by {} have the pseudo-reward {}. With {} samples of each outcome RLOO's estimate "
            "is the covariance of the group's samples, applied to the deviation and turned: noise that is a "
            "multiple of the distance.", SHIFT[I], LEVEL - SHIFT[I], COUNTS[I]),
        COUNTS[J] * (LEVEL - SHIFT[J] - average) / (GROUP - 1),
        -pull * total(covariance * SHIFT[I]),
        given={total(COUNTS[I]): GROUP},
        name="g_j",
        scope=say("any number {} of outcomes, any {} from two on", N, GROUP),
    )  # fmt: skip


def _two_outcomes(d: Derivation, across: Any) -> Any:
    one = Short("c", FIRST * SECOND / (GROUP * (GROUP - 1)))
    d.equal(
        say("One token of two outcomes, {} and {} of them in the group: what a step leaves of the deviation {} of the "
            "log-odds. Each logit takes its part of the way.", FIRST, SECOND, X),
        (X / 2 - ETA * one * X) - (-X / 2 + ETA * one * X),
        X * (1 - 2 * ETA * one),
        scope=TWO,
    )  # fmt: skip
    drift = d.equal(
        say("The covariance {} of the outcomes in a group: its mean.", one),
        count_moment(1) / (GROUP * (GROUP - 1)),
        SPREAD,
        name="E[c]",
        scope=TWO,
    )
    own = d.equal(
        say("Its mean square."),
        count_moment(2) / (GROUP * (GROUP - 1)) ** 2,
        SPREAD * OWN,
        name="E[c^2]",
        scope=TWO,
    )
    cross = d.equal(
        say("Of two tokens the covariance is linear in the second one's outcomes. Given the first one's it has mean "
            "zero and this variance, averaged: a group's spread of the first, by the variance of the second."),
        SPREAD * count_moment(1) / (GROUP * (GROUP - 1) ** 2),
        across,
        name="E[c_ts^2]",
        scope=TWO,
    )  # fmt: skip
    sizes = runs(GROUP, (2, 3, 4))
    pairs = [(_every_group(int(size)), across.subs(GROUP, int(size))) for size in sizes]
    d.cases(say("The same by all groups of two tokens."), cross, pairs, say("{}", sizes), again=True)
    terms = 1 - 4 * ETA * drift.lhs + 4 * ETA**2 * (own.lhs + (TOKENS - 1) * cross.lhs)
    return d.equal(
        say("So a step multiplies the mean square by this. (Products of two tokens' deviations have mean zero, and "
            "keep it: each term is linear in some token's centred outcomes.)"),
        terms,
        FACTOR,
        name="factor",
        scope=TWO,
    )  # fmt: skip


def _every_group(size: int) -> Any:
    """Return E[c_ts^2] by a sum over the outcomes of two independent tokens in every sample of a group."""
    found: Any = sp.Integer(0)
    for first in itertools.product((0, 1), repeat=size):
        for second in itertools.product((0, 1), repeat=size):
            ones = sum(first) + sum(second)
            products = sum(a * b for a, b in zip(first, second, strict=True))
            c = sp.Rational(products * size - sum(first) * sum(second), size * (size - 1))
            found += c**2 * M**ones * (1 - M) ** (2 * size - ones)
    return sp.expand(found)


def _border(d: Derivation, factor: Any, border: Any) -> tuple[Any, Any, Any]:
    place = Short("eta^*", border)
    d.equal(
        say("It keeps its size at this rate, and at the rate zero."),
        sp.Subs(factor.lhs, ETA, place) - 1,
        0,
        scope=TWO,
    )
    d.equal(
        say("Between these the change has the sign of the last factor."),
        factor.lhs - 1,
        4 * ETA * SPREAD * (ETA / place - 1),
        scope=TWO,
    )
    below = ETA / place - 1
    words = []
    for other, sign in ((place / (1 + MORE), "negative"), (place * (1 + MORE), "positive")):
        there = sp.Subs(below, ETA, other)
        simple = -MORE / (1 + MORE) if sign == "negative" else MORE
        d.has_sign(say("At {} it has this one.", other), there, sign, by=simple, scope=TWO)
        words.append(by_sign(simple, "settles", "leaves"))
    return place.definition, *words


def _limits(d: Derivation, named: Any) -> tuple[Any, Any]:
    value = named.lhs
    d.equal(
        say("In pairs, and one token, the border is the same for all masses."),
        sp.Subs(value, (GROUP, TOKENS), (2, 1)),
        2,
        scope=say("two outcomes"),
    )
    exact = d.limit(
        say("For many samples it is that of the exact gradient, whatever the number of tokens."),
        value, GROUP, sp.oo, 1 / SPREAD, where={M: 1 / (1 + MORE)}, scope=say("tokens of two outcomes"),
    )  # fmt: skip
    long = d.limit(
        say("For many tokens it goes as one over their number, and more samples repay it."),
        TOKENS * value, TOKENS, sp.oo, (GROUP - 1) / SPREAD, where={M: 1 / (1 + MORE), GROUP: 2 + EXTRA}, scope=TWO,
    )  # fmt: skip
    return exact, long


def _adam(d: Derivation, rate: Any, least: int) -> tuple[Any, Any, Any, Any]:
    step = Short("step", ETA * SCALE * MEAN / (SCALE * ROOT + EPS))
    slow_rate = Short("eta_slow", rate)
    same = d.equal(
        say("Adam's averages {} of gradients and {}, the root of their squares', both take the factor of gradients "
            "that are multiplied by {}. Without {} its step does not.", MEAN, ROOT, SCALE, EPS),
        sp.Subs(step, EPS, 0),
        ETA * MEAN / ROOT,
    )  # fmt: skip
    slow = d.limit(
        say("With {} it does: for small gradients the step over their factor is that of gradient ascent, of this rate.",
            EPS),
        step / SCALE, SCALE, 0, slow_rate * MEAN,
    )  # fmt: skip
    mixed = 1 / (1 + MORE)
    after = (1 - mixed) * DISTANCE**2 + mixed * (DISTANCE - 2 * ETA) ** 2
    place = Short("q", mixed)
    floor = least * place * (1 - place) * ETA**2
    d.equal(
        say("Without memory the step is the rate by the sign of the gradient. On two outcomes, with a chance of {} for "
            "a group that has both, the mean square of a distance {} becomes a square and a rest.", place, DISTANCE),
        Short("E[d_next^2]", after),
        (DISTANCE - 2 * place * ETA) ** 2 + floor,
    )  # fmt: skip
    d.has_sign(
        say("The rest is a floor: no distance is so short that it goes below this."),
        floor,
        "positive",
        by=4 * ETA**2 * MORE / (1 + MORE) ** 2,
    )
    stated = sp.Gt(floor, 0, evaluate=False)
    return same, slow, slow_rate.definition, stated


T26 = Theorem("T26", "Noise at the null, and the optimiser", mean_square)
