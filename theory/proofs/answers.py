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
from sharpen.theory.majority import winner_probabilities
from sharpen.theory.marginal import compare_sharpening, mode_conflict
from sharpen.theory.optimum import optimum
from sharpen.theory.problem import Problem
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, PI, I, K, P, Z, derivative, mean, total

ALPHA, LAMBDA = sp.symbols("alpha lambda", positive=True)
MASS, GAIN = sp.symbols("A g", positive=True)
SPREAD = sp.Symbol("s", integer=True, positive=True)
THREE = (sp.Rational(4, 10), sp.Rational(3, 10), sp.Rational(3, 10))  # answers 0, 1, 1; the second is correct
EVENLY = MASS**ALPHA * SPREAD ** (1 - ALPHA)
FLIP = sp.log(2) / sp.log(sp.Rational(4, 3))
ANY_SPLIT = "any number of sequences an answer"
AN_EXAMPLE = "an example, which is all that the claim needs"


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
    weight = total(sp.exp(ALPHA * LOG_P[I]))
    d.equal(
        "Sharpened sequences follow p^alpha / Z (T1), so an answer weighs the sum S of p^alpha = exp(alpha ell) over "
        "its sequences. The slope of log S is the mean of ell = log p among them, weighted by p^alpha.",
        sp.diff(sp.log(weight), ALPHA),
        total(sp.exp(ALPHA * LOG_P[I]) * LOG_P[I]) / weight,
        shown=sp.Derivative(sp.log(weight), ALPHA),
        scope=ANY_SPLIT,
    )
    spread_out = -total(P[I] / MASS * (sp.log(P[I]) - sp.log(MASS)))
    d.equal(
        "At alpha = 1 that mean is the log of the answer's mass A less the entropy of its sequences: spreading out "
        "costs as much as mass gains.",
        total(P[I] / MASS * sp.log(P[I])),
        sp.log(MASS) - spread_out,
        given={total(P[I]): MASS},
        scope=ANY_SPLIT,
    )
    right, wrong = (sp.Function(name, positive=True)(ALPHA) for name in ("S_r", "S_w"))
    accuracy = right / (right + wrong)
    d.equal(
        "Accuracy S_r / (S_r + S_w) therefore falls exactly where the mean log p of right sequences is below that of "
        "wrong ones, whatever their masses are.",
        sp.diff(accuracy, ALPHA),
        accuracy * (1 - accuracy) * (sp.diff(sp.log(right), ALPHA) - sp.diff(sp.log(wrong), ALPHA)),
        shown=sp.Derivative(accuracy, ALPHA),
        scope="any two sets of sequences",
    )
    d.equal(
        "Take an answer of mass A spread evenly over s sequences.",
        sp.Sum((MASS / SPREAD) ** ALPHA, (I, 1, SPREAD)),
        spread,
        scope="every whole number s",
    )
    _flips(d, flip)
    _answers(d, exponent)
    _mode_numbers(d, flip, exponent)


def _flips(d: Derivation, flip: Any) -> None:
    """Find where an answer loses to one whose sequences are likelier, and the example."""
    odds = SPREAD * (1 + GAIN) ** (-ALPHA)
    d.equal(
        "Its odds against an answer with s times fewer sequences, each 1 + g times as likely, are even at this alpha.",
        sp.log(odds).subs(ALPHA, sp.log(SPREAD) / sp.log(1 + GAIN)),
        0,
        shown=sp.Subs(sp.log(odds), ALPHA, sp.log(SPREAD) / sp.log(1 + GAIN)),
    )
    d.has_sign(
        "They fall all the way: past that alpha the vote is for the answer with the likelier sequences.",
        sp.diff(sp.expand_log(sp.log(odds)), ALPHA),
        "negative",
        shown=sp.Derivative(sp.log(odds), ALPHA),
    )
    d.limit("In the end the likeliest sequence's answer has everything.", odds, ALPHA, sp.oo, 0)
    share = 2 * THREE[1] ** ALPHA / sum(x**ALPHA for x in THREE)
    d.equal(
        "An example: p = (4, 3, 3)/10, answers 0, 1, 1, the second correct. The right answer has most mass.",
        share.subs(ALPHA, 1),
        sp.Rational(3, 5),
        shown=sp.Subs(share, ALPHA, 1),
        scope=AN_EXAMPLE,
    )
    d.equal(
        "Sharpening its sequences brings the right answer down to one half here, where its odds are even.",
        sp.expand_log(sp.log(2 * (THREE[1] / THREE[0]) ** ALPHA)).subs(ALPHA, flip),
        0,
        shown=sp.Subs(sp.log(2 * (THREE[1] / THREE[0]) ** ALPHA), ALPHA, flip),
        scope=AN_EXAMPLE,
    )
    for k in (1, 3, 5):
        before, after = (_vote_of(tuple(Fraction(x) ** alpha for x in (4, 3, 3)), (0, 1, 1), k)[1] for alpha in (1, 4))
        d.has_sign(
            f"At alpha = 4 fewer votes of {k} are right than at alpha = 1 (all {3**k} samples counted).",
            sp.Rational(str(before - after)),
            "positive",
            scope=AN_EXAMPLE,
        )


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


def _answers(d: Derivation, exponent: Any) -> None:
    """Derive the optimum of the objective that takes the likelihood of the answer in place of the sequence's."""
    mass: Any = sp.IndexedBase("A", positive=True)
    objective = mean((ALPHA - 1) * sp.log(mass[I]) + sp.log(P[I]) - sp.log(PI[I]))
    slope = derivative(objective + LAMBDA * (1 - total(PI[I])), PI[K])
    best = P[K] * mass[K] ** (ALPHA - 1) / Z
    d.equal(
        "Another objective has (alpha - 1) log p(answer) as its extra likelihood and keeps the sequence's KL pair. Its "
        "optimum is pi* = p A^(alpha - 1) / Z, A the mass of the sequence's answer (strict concavity: T1).",
        slope.subs(PI[K], best),
        0,
        given={LAMBDA: sp.log(Z) - 1},
        shown=sp.Subs(slope, (PI[K], LAMBDA), (best, sp.log(Z) - 1)),
        scope=ANY_N,
    )
    d.equal(
        "The sequences of one answer together weigh a power of its mass; among them the odds stay the base's.",
        total(P[I] * MASS ** (ALPHA - 1)),
        MASS**exponent,
        given={total(P[I]): MASS},
        scope=ANY_SPLIT,
    )
    p, pi, share = sp.symbols("p pi q", positive=True)
    d.equal(
        "Pointwise that objective is the tempered objective of the answers, pi's share q of an answer in place of "
        "pi(x), less the divergence within an answer.",
        (ALPHA - 1) * sp.log(MASS) + sp.log(p) - sp.log(pi),
        ALPHA * sp.log(MASS) - sp.log(share) - (sp.log(pi / share) - sp.log(p / MASS)),
    )
    d.has_sign(
        "So the odds of an answer with 1 + g times the mass of another rise: the vote stays, and its answer gains.",
        sp.diff(ALPHA * sp.log(1 + GAIN), ALPHA),
        "positive",
        shown=sp.Derivative(ALPHA * sp.log(1 + GAIN), ALPHA),
    )
    d.limit("In the end the answer of largest mass has everything.", (1 + GAIN) ** (-ALPHA), ALPHA, sp.oo, 0)


def _mode_numbers(d: Derivation, flip: Any, exponent: Any) -> None:
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
        claimed = mass ** float(exponent.subs(ALPHA, alpha)) * (mass > 0)
        masses += list(np.bincount(answers, pair.answer, 3) - claimed / claimed.sum())
        slopes.append(_slope_error(p, answers == 1))
        conflict = mode_conflict(Problem(p, np.zeros(n)), answers)
        conflicts.append(float(conflict.conflict != (answers[np.argmax(p)] != np.argmax(mass))))
    drawn = "10 random problems"
    marginal = sp.Eq(sp.Symbol("pi_A"), sp.Symbol("A") ** exponent / Z, evaluate=False)
    d.confirm("SciPy's BFGS finds the package's optimum of the answer objective.", marginal, policies, 1e-6, drawn)
    d.confirm("Its answers have the claimed shares.", marginal, masses, 1e-12, drawn)
    modes_differ = sp.Ne(sp.Symbol("mode of p(a)"), sp.Symbol("a(mode of p)"), evaluate=False)
    falls = sp.Eq(sp.Derivative(sp.Symbol("E[r]"), ALPHA), sp.Symbol("slope"), evaluate=False)
    d.confirm("Accuracy's slope at alpha = 1 from masses and entropies is mpmath's.", falls, slopes, 1e-12, drawn)
    d.confirm("The package sees a conflict of modes exactly where there is one.", modes_differ, conflicts, 0.0, drawn)
    example = Problem([float(x) for x in THREE], [0.0, 1.0, 1.0])

    def above_half(alpha: float) -> float:
        pi = optimum(preset("tempered", alpha=alpha), example).probabilities
        return float(winner_probabilities([pi[0], pi[1] + pi[2]], 3)[1]) - 0.5

    root = root_scalar(above_half, bracket=(1.0, 8.0), xtol=1e-13).root
    shown = sp.Eq(ALPHA, flip, evaluate=False)
    d.confirm(
        "The package's maj@3 of its optimum is one half at this alpha.", shown, [root - float(flip)], 1e-9, "example"
    )


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


T5 = Theorem(
    "T5",
    "Sequence mode and answer mode",
    "Sharpening sequences favours answers whose sequences are likely, sharpening answers those with much mass: the "
    "first can turn a vote from right to wrong (p = (4, 3, 3)/10, the last two agreeing on the right answer, at alpha "
    "= 2.41), the second never turns one. Accuracy under p^alpha falls exactly where right sequences have the lower "
    "mean log p. Sharpening answers is the objective with (alpha - 1) log p(a) in place of (alpha - 1) log p(x); its "
    "optimum is p(x | a) p(a)^alpha / Z.",
    r"\pi_\alpha(a) \propto \sum_{x \in a} p(x)^\alpha, \quad \frac{\partial}{\partial\alpha} \log \frac{\pi_\alpha(a)}"
    r"{\pi_\alpha(b)} = E_{\pi_\alpha}[\log p \mid a] - E_{\pi_\alpha}[\log p \mid b]; \qquad \pi^*_{ans}(x) = "
    r"\frac{p(x \mid a)\, p(a)^\alpha}{Z}",
    modes,
)
