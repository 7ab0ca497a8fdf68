"""T5: sharpening sequences is not sharpening answers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import preset
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.majority import winner_probabilities
from sharpen.theory.optima.marginal import compare_sharpening, mode_conflict
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.proofs.notation import Short, by_sign, by_value, runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import AN_EXAMPLE, ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, PI, I, K, P, Z, mean, total

ALPHA, LAMBDA = sp.symbols("alpha lambda", positive=True)
MASS, GAIN = sp.symbols("A g", positive=True)
SPREAD = sp.Symbol("s", integer=True, positive=True)
THREE = (sp.Rational(4, 10), sp.Rational(3, 10), sp.Rational(3, 10))  # answers 0, 1, 1; the second is correct
EVENLY = MASS**ALPHA * SPREAD ** (1 - ALPHA)
FLIP = sp.log(2) / sp.log(sp.Rational(4, 3))
ANY_SPLIT = say("any number of sequences an answer")
REFERENCE = sp.Symbol("p")


def modes(
    d: Derivation,
    *,
    spread: Any = EVENLY,
    flip: Any = FLIP,
    exponent: Any = ALPHA,
) -> None:
    """Derive what sharpening does to answers.

    Args:
        d: Takes the steps.
        spread: Claimed weight under p^alpha of an answer of mass A spread evenly over s sequences.
        flip: Claimed alpha at which the vote of the example turns wrong.
        exponent: Claimed exponent of an answer's mass once answers are sharpened.
    """
    weight = Short("S", total(sp.exp(ALPHA * LOG_P[I])))
    d.equal(
        say("A sharpened sequence weighs {} (T1), and an answer the sum {} over its sequences. The slope of its "
            "logarithm is the mean log-likelihood among them, weighted alike.", sp.exp(ALPHA * LOG_P[I]), weight),
        sp.Derivative(sp.log(weight), ALPHA),
        total(sp.exp(ALPHA * LOG_P[I]) * LOG_P[I]) / weight,
        scope=ANY_SPLIT,
    )  # fmt: skip
    entropy = Short("H(x | a)", -total(P[I] / MASS * (sp.log(P[I]) - sp.log(MASS))))
    level = sp.Subs(total(P[I] ** ALPHA / MASS * sp.log(P[I])), ALPHA, 1)
    d.equal(
        say("Before sharpening that mean comes from the answer's mass {} and the entropy of its sequences: what "
            "spreading out costs is what mass gains.", MASS),
        level,
        sp.log(MASS) - entropy,
        given={total(P[I]): MASS},
        scope=ANY_SPLIT,
    )  # fmt: skip
    falls = _accuracy(d)
    even = d.equal(
        say("Take an answer of mass {} spread evenly over {} sequences.", MASS, SPREAD),
        Short("S_even", sp.Sum((MASS / SPREAD) ** ALPHA, (I, 1, SPREAD))),
        spread,
        scope=say("every whole number {}", SPREAD),
    )
    turned, before = _flips(d, flip)
    answers, gained, policy = _answers(d, exponent)
    _mode_numbers(d, flip, exponent, falls, turned, answers)
    d.state(
        "Sharpening sequences favours answers whose sequences are likely: {}, so one of mass {} spread evenly over {} "
        "sequences weighs {}. It can turn a vote. An example with answers that have {}, the last two agreeing on the "
        "right answer: it begins with {}, and its odds are even at {}. Sharpening answers favours mass. It is the "
        "objective with the answer's likelihood in the place of the extra likelihood; its optimum is {}, an answer "
        "then weighs {}, and the odds of one with more mass {}: it turns no vote.",
        falls, MASS, SPREAD, even, runs(REFERENCE, THREE), before, turned, policy, answers, gained,
    )  # fmt: skip


def _accuracy(d: Derivation) -> Any:
    """Add the slope of accuracy; return its equation."""
    right, wrong = (sp.Function(name, positive=True)(ALPHA) for name in ("S_r", "S_w"))
    accuracy = Short("E[r]", right / (right + wrong))
    return d.equal(
        say("So accuracy goes with the difference of two means of the log-likelihood, that of right and that of wrong "
            "sequences, whatever their masses are."),
        sp.Derivative(accuracy, ALPHA),
        accuracy * (1 - accuracy) * (sp.Derivative(sp.log(right), ALPHA) - sp.Derivative(sp.log(wrong), ALPHA)),
        scope=say("any two sets of sequences"),
    )  # fmt: skip


def _flips(d: Derivation, flip: Any) -> tuple[Any, Any]:
    """Find where an answer loses to one whose sequences are likelier, and the example; return its equations."""
    odds = Short("odds", SPREAD * (1 + GAIN) ** (-ALPHA))
    even = sp.log(SPREAD) / sp.log(1 + GAIN)
    d.equal(
        say("The odds of an answer of {} sequences against one that has one, {} as likely as each of these, are even "
            "here.", SPREAD, 1 + GAIN),
        sp.Subs(sp.log(odds), ALPHA, even),
        0,
    )  # fmt: skip
    slope = sp.Derivative(sp.log(odds), ALPHA)
    d.has_sign(
        say("They {} all the way: past that point the vote is for the answer with the likelier sequences.",
            by_sign(-sp.log(1 + GAIN), "rise", "fall")),
        slope,
        "negative",
        by=-sp.log(1 + GAIN),
    )  # fmt: skip
    gone = sp.Limit(odds, ALPHA, sp.oo)
    d.limit(
        say("In the end the answer of the likeliest sequence has {}.", by_value(gone, "everything", "as much")),
        odds,
        ALPHA,
        sp.oo,
        0,
    )
    share = Short("share", 2 * THREE[1] ** ALPHA / sum(x**ALPHA for x in THREE))
    before = d.equal(
        say("An example: {}, the last two with one answer, which is correct and has most mass.",
            runs(REFERENCE, THREE)),
        sp.Subs(share, ALPHA, 1),
        sp.Rational(3, 5),
        scope=AN_EXAMPLE,
    )  # fmt: skip
    two = Short("right/wrong", 2 * (THREE[1] / THREE[0]) ** ALPHA)
    turned = d.equal(
        say("Where the odds of the right answer are even."),
        sp.Subs(sp.log(two), ALPHA, flip),
        0,
        by=sp.expand_log(sp.log(two.value)).subs(ALPHA, flip),
        scope=AN_EXAMPLE,
    )
    for k in (1, 3, 5):
        before_vote, after = (
            _vote_of(tuple(Fraction(x) ** alpha for x in (4, 3, 3)), (0, 1, 1), k)[1] for alpha in (1, 4)
        )
        first, last = (Short(f"maj@{k}({x})", sp.Rational(str(y))) for x, y in ((1, before_vote), (4, after)))
        d.compare(
            say("Sharpening on, votes of {} get worse (all {} samples counted).", k, 3**k),
            first,
            "positive",
            last,
            scope=AN_EXAMPLE,
        )
    return turned, before


def _vote_of(weights: tuple[Fraction, ...], answers: tuple[int, ...], k: int) -> list[Fraction]:
    """Return the probability that each answer wins, over every ordered sample of k outcomes, ties shared."""
    p = [weight / sum(weights) for weight in weights]
    wins = [Fraction(0)] * (max(answers) + 1)
    for sample in itertools.product(range(len(p)), repeat=k):
        for answer, part in winners([answers[i] for i in sample]).items():
            wins[answer] += math.prod((p[i] for i in sample), start=Fraction(1)) * part
    return wins


def winners(votes: list[int]) -> dict[int, Fraction]:
    """Return the part that each winner has of the vote; negative votes are for nobody."""
    counts = Counter(vote for vote in votes if vote >= 0)
    best = [answer for answer, count in counts.items() if count == max(counts.values())]
    return dict.fromkeys(best, Fraction(1, max(1, len(best))))


def _answers(d: Derivation, exponent: Any) -> tuple[Any, Any, Any]:
    """Derive the optimum of the objective that takes the likelihood of the answer in place of the sequence's."""
    mass: Any = sp.IndexedBase("A", positive=True)
    objective = mean((ALPHA - 1) * sp.log(mass[I]) + sp.log(P[I]) - sp.log(PI[I]))
    lagrangian = Short("L", objective + LAMBDA * (1 - total(PI[I])))
    best = Short("pi^*_k", P[K] * mass[K] ** (ALPHA - 1) / Z)
    d.equal(
        say("Another objective, of which {} is the Lagrangian, takes the log-likelihood of a sequence's answer, of mass"
            " {}, as extra likelihood and keeps the sequence's divergence. Its optimum is {} (by concavity, as in T1).",
            lagrangian, mass[K], best),
        sp.Subs(sp.Derivative(lagrangian, PI[K]), (PI[K], LAMBDA), (best, sp.log(Z) - 1)),
        0,
        given={LAMBDA: sp.log(Z) - 1},
        scope=ANY_N,
    )  # fmt: skip
    answers = d.equal(
        say("The sequences of one answer together weigh a power of its mass; among them the odds stay the "
            "reference's."),
        Short("S_a", total(P[I] * MASS ** (ALPHA - 1))),
        MASS**exponent,
        given={total(P[I]): MASS},
        scope=ANY_SPLIT,
    )  # fmt: skip
    p, pi, share = sp.symbols("p pi q", positive=True)
    d.equal(
        say("Pointwise that objective is the tempered objective of the answers, with the policy's share {} of an "
            "answer, less the divergence within an answer.", share),
        (ALPHA - 1) * sp.log(MASS) + sp.log(p) - sp.log(pi),
        ALPHA * sp.log(MASS) - sp.log(share) - (sp.log(pi / share) - sp.log(p / MASS)),
    )  # fmt: skip
    odds = sp.log(1 + GAIN) * exponent
    slope = sp.Derivative(odds, ALPHA)
    gained = by_sign(slope, "rise", "fall")
    d.has_sign(
        say("So the log-odds of an answer with {} of the mass of another {}: the vote stays, and its answer gains.",
            1 + GAIN, gained),
        slope,
        "positive",
    )  # fmt: skip
    rest = (1 + GAIN) ** (-exponent)
    d.limit(
        say("In the end the answer of most mass has {}.",
            by_value(sp.Limit(rest, ALPHA, sp.oo), "everything", "as much")),
        rest,
        ALPHA,
        sp.oo,
        0,
    )  # fmt: skip
    return answers, gained, best.definition


def _mode_numbers(d: Derivation, flip: Any, exponent: Any, falls: Any, turned: Any, answers_weigh: Any) -> None:
    """Compare with an optimizer, a root finder and numerical derivatives."""
    from scipy.optimize import minimize, root_scalar

    policies, masses, slopes, conflicts = [], [], [], []
    for _ in range(10):
        n, alpha = int(d.rng.integers(3, 8)), float(d.rng.uniform(0.5, 3.0))
        p, answers = d.rng.dirichlet(np.ones(n)), np.append([0, 1], d.rng.integers(0, 3, n - 2))
        mass = np.array([p[answers == a].sum() for a in range(3)])

        def loss(theta: np.ndarray, p: np.ndarray = p, m: np.ndarray = mass[answers], alpha: float = alpha) -> float:
            log_pi = theta - np.logaddexp.reduce(theta)
            return float(np.exp(log_pi) @ (log_pi - np.log(p) - (alpha - 1) * np.log(m)))

        found = minimize(loss, np.zeros(n), jac="3-point", options={"gtol": 1e-10}).x
        pair = compare_sharpening(preset("tempered", alpha=alpha), Problem(p, (answers == 1).astype(float)), answers)
        policies.append(np.max(np.abs(pair.answer - np.exp(found - np.logaddexp.reduce(found)))))
        claimed = mass ** float(sp.sympify(exponent).subs(ALPHA, alpha)) * (mass > 0)
        masses += list(np.bincount(answers, pair.answer, 3) - claimed / claimed.sum())
        slopes.append(_slope_error(p, answers == 1))
        conflict = mode_conflict(Problem(p, np.zeros(n)), answers)
        conflicts.append(float(conflict.conflict != (answers[np.argmax(p)] != np.argmax(mass))))
    drawn = say("{} random problems", 10)
    words = say("SciPy's BFGS finds the package's optimum of the answer objective.")
    d.confirm(words, answers_weigh, policies, 1e-6, drawn)
    d.confirm(say("Its answers have the claimed shares."), answers_weigh, masses, 1e-12, drawn)
    words = say("Accuracy's slope at first, from masses and entropies, is mpmath's.")
    d.confirm(words, falls, slopes, 1e-12, drawn)
    words = say("The package sees a conflict of modes exactly where there is one.")
    d.confirm(words, sp.Symbol("conflict"), conflicts, 0.0, drawn)
    example = Problem([float(x) for x in THREE], [0.0, 1.0, 1.0])

    def above_half(alpha: float) -> float:
        pi = optimum(preset("tempered", alpha=alpha), example).probabilities
        return float(winner_probabilities([pi[0], pi[1] + pi[2]], 3)[1]) - 0.5

    root = root_scalar(above_half, bracket=(1.0, 8.0), xtol=1e-13).root
    words = say("There the package's vote of three, of its optimum, is even, too.")
    d.confirm(words, turned, [root - float(flip)], 1e-9, say("example"))


def _slope_error(p: np.ndarray, right: np.ndarray) -> float:
    """Return how far accuracy's slope from masses and entropies is from mpmath's derivative, at alpha = 1."""
    import mpmath

    def accuracy(alpha: Any) -> Any:
        weights = [mpmath.mpf(float(x)) ** alpha for x in p]
        return mpmath.fsum(w for w, r in zip(weights, right, strict=True) if r) / mpmath.fsum(weights)

    levels = []
    for part in (p[right], p[~right]):
        inside = part / part.sum()
        levels.append(np.log(part.sum()) + inside @ np.log(inside))
    mass = p[right].sum()
    with mpmath.workdps(30):
        return float(mpmath.diff(accuracy, 1)) - mass * (1 - mass) * (levels[0] - levels[1])


T5 = Theorem("T5", "Sequence mode and answer mode", modes)
