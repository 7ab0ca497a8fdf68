"""T15 and T16: what a part of the outcomes says for certain, and how a change of policy splits into its causes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import preset
from sharpen.theory.audit import certified, deviance
from sharpen.theory.core.problem import Problem
from sharpen.theory.proofs.notation import Short, by_value
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, NORMALISED, PI, I, mean, total

EXCESS, GAP = sp.symbols("a g", positive=True)  # alpha = 1 + a; an outcome has the share 1/(1 + g) of its prefix
PREFIX = sp.Symbol("u", positive=True)
ALPHA = 1 + EXCESS
SHARE = 1 / (1 + GAP)
ABOVE_POWER = EXCESS * sp.log(1 + GAP)
TILT = sp.Symbol("B", positive=True)  # e^beta_inv = 1 + B
RIGHT, WRONG = sp.symbols("R W", nonnegative=True)  # weights seen: of right outcomes and of wrong ones
HIDDEN_RIGHT, HIDDEN_WRONG, SLACK = sp.symbols("s t d", nonnegative=True)  # p^alpha below the frontier; what U is above
UNSEEN = HIDDEN_RIGHT + HIDDEN_WRONG + SLACK
SEEN = RIGHT + WRONG
F: Any = sp.IndexedBase("f", real=True)  # two features
G: Any = sp.IndexedBase("g", real=True)
Q: Any = sp.IndexedBase("q", positive=True)  # the closest policy by the feature f
S: Any = sp.IndexedBase("s", positive=True)  # the closest by both
THETA, OTHER, LOG_A, LOG_B, SECOND = sp.symbols("theta phi A B psi", real=True)


def certified_response(
    d: Derivation,
    *,
    power: sp.Expr = ABOVE_POWER,
    low: sp.Expr = RIGHT / (SEEN + UNSEEN),
    high: sp.Expr = (RIGHT + (1 + TILT) * UNSEEN) / (SEEN + (1 + TILT) * UNSEEN),
) -> None:
    """Derive the bounds from a part of the outcomes.

    Args:
        d: Takes the steps.
        power: Claimed log of a share over its power alpha.
        low: Claimed lower bound of E[r].
        high: Claimed upper bound.
    """
    d.equal(
        say("An outcome below a prefix of probability {} has a share {} of it. The logarithm of the share over its "
            "power {}.", PREFIX, SHARE, ALPHA),
        sp.log(SHARE) - ALPHA * sp.log(SHARE),
        power,
    )  # fmt: skip
    d.has_sign(say("So the power is below the share, unless the share is everything."), power, "positive")
    members: Any = sp.IndexedBase("z", positive=True)
    d.equal(
        say("The shares {} of all outcomes below the prefix add up to one, so their powers add up to less, and the"
            " power of the prefix comes out of the sum.", members),
        total((PREFIX * members[I]) ** ALPHA),
        PREFIX**ALPHA * total(members[I] ** ALPHA),
        scope=ANY_N,
    )  # fmt: skip
    below = _bounds(d, low, high)
    mode = d.has_sign(
        say("A seen outcome that is likelier than a prefix, {} of it, is likelier than everything below: the "
            "logarithm of the ratio to a share of {}.", 1 + EXCESS, SHARE),
        sp.log(1 + EXCESS) + sp.log(1 + GAP),
        "positive",
    )  # fmt: skip
    parts, spread = sp.symbols("m b", positive=True)
    open_end = d.limit(
        say("Below one there is no such bound: the powers of {} equal shares of a prefix.", parts),
        parts * (1 / parts) ** (1 - spread),
        parts,
        sp.oo,
        sp.oo,
    )
    _certified_numbers(d, below[0])
    d.state(
        "With the weights {} and {} of the right and wrong outcomes seen, the power sums {} and {} of those below the "
        "frontier, and {} for the sum of the frontier's powers, {} and {}. The mode is known as soon as {}. For "
        "exponents below one the unseen part {}: {}.",
        RIGHT, WRONG, HIDDEN_RIGHT, HIDDEN_WRONG, UNSEEN, *below, mode, by_value(open_end.rhs, "has no bound"),
        open_end,
    )  # fmt: skip


def _bounds(d: Derivation, low: sp.Expr, high: sp.Expr) -> tuple[Any, Any]:
    """Compare E[r] with both ends; return the inequalities."""
    hidden = (1 + TILT) * HIDDEN_RIGHT
    expected = Short("E[r]", (RIGHT + hidden) / (SEEN + hidden + HIDDEN_WRONG))
    put = {RIGHT: RIGHT + sp.Symbol("e", positive=True)}  # something right is seen, so no sum is 0
    lower = d.compare(
        say("Right outcomes that are not seen weigh {} of their power, the exponential of the reward's weight. Leaving "
            "them out and taking all of the frontier for wrong.", 1 + TILT),
        expected,
        "nonnegative",
        low,
        by=_over(expected, low, put),
        where=put,
    )  # fmt: skip
    upper = d.compare(
        say("Taking all of the frontier for right."),
        Short("E[r]", expected.value),
        "nonpositive",
        high,
        by=_over(expected, high, put),
        where=put,
    )
    return lower, upper


def _over(left: Short, right: sp.Expr, put: dict[Any, Any]) -> Any:
    """Return left - right as one fraction whose numerator and denominator are expanded."""
    top, bottom = sp.fraction(sp.together((left.value - right).subs(put)))
    return sp.expand(top) / sp.expand(bottom)


def _certified_numbers(d: Derivation, bound: Any) -> None:
    """Cut random trees at random places, and compare the package's intervals with sums over everything."""
    outside, ends = [], []
    for _ in range(40):
        n, cut = int(d.rng.integers(4, 40)), int(d.rng.integers(1, 4))
        p, r = d.rng.dirichlet(np.full(n, 0.3)) + 1e-12, d.rng.integers(0, 2, n).astype(float)
        p /= p.sum()
        groups = np.array_split(d.rng.permutation(n), cut + 2)
        inside, frontier = np.concatenate(groups[:2]), [np.log(p[group].sum()) for group in groups[2:] if group.size]
        seen = certified.Seen.of(np.log(p[inside]), r[inside], frontier)
        spec = preset("tilted", alpha=float(d.rng.uniform(1, 4)), beta_inv=float(d.rng.uniform(0, 3)))
        weights = p**spec.alpha * np.exp(spec.beta_inv * r)
        value = float(weights @ r / weights.sum())
        found = certified.expected_reward(seen, spec)
        outside += [max(0.0, found.low - value), max(0.0, value - found.high)]
        everything = certified.Seen.of(np.log(p), r, [])
        ends += [end - value for end in certified.expected_reward(everything, spec)]
    drawn = say("{} random problems", 40)
    d.confirm(say("The package's interval holds the sum over all outcomes."), bound, outside, 1e-12, drawn)
    d.confirm(say("With nothing left on the frontier both ends are that sum."), bound, ends, 1e-12, drawn)


def deviance_analysis(
    d: Derivation,
    *,
    moment: int = 1,
    bend: int = -1,
    rest: int = 1,
) -> None:
    """Derive the split of KL(pi || p).

    Args:
        d: Takes the steps.
        moment: Claimed factor of the model's moment in the slope of the log-likelihood.
        bend: Claimed factor of the model's variance in its curvature.
        rest: Claimed factor of the step from one family to the larger one.
    """
    weights = sp.exp(LOG_P[I] + THETA * F[I])
    closest = Short("L", mean(LOG_P[I] + THETA * F[I]) - total(PI[I]) * sp.log(total(weights)))
    expected = Short("E_q[f]", total(weights * F[I]) / total(weights))
    slope = d.equal(
        say("The family adds a feature {} to the log-probabilities {}. What the policy's samples say of its members has"
            " this slope in {}, which is zero where both have the same mean of the feature.", F[I], LOG_P[I], THETA),
        sp.Derivative(closest, THETA),
        mean(F[I]) - moment * expected,
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    variance = total(weights * F[I] ** 2) / total(weights) - expected.value**2
    concave = d.equal(
        say("And this curvature, a variance: one member is the closest."),
        sp.Derivative(closest, (THETA, 2)),
        bend * Short("Var_q(f)", variance),
        given=NORMALISED,
        scope=ANY_N,
    )
    parts = _pythagoras(d, rest)
    sharpened = d.equal(
        say("With the log-probabilities themselves for the feature the family is sharpening."),
        sp.exp(LOG_P[I] + THETA * LOG_P[I]),
        sp.exp((1 + THETA) * LOG_P[I]),
        scope=ANY_N,
    )
    _deviance_numbers(d, parts)
    d.state(
        "The closest member of a family matches its feature, as {}, and is the only one, as {}. From a family to one "
        "with another feature {}: so the divergence from the reference splits into what the features explain and a "
        "rest. For the feature {} the family is the powers, {}.",
        slope, concave, parts, LOG_P[I], sharpened,
    )  # fmt: skip


def _pythagoras(d: Derivation, rest: int) -> Any:
    """Split a divergence along two nested families; return the equation."""
    step = (OTHER - THETA) * F[I] + SECOND * G[I] - (LOG_B - LOG_A)  # log s - log q
    same = {
        total(PI[I]): sp.Integer(1),
        total(S[I]): sp.Integer(1),
        total(S[I] * F[I]): total(PI[I] * F[I]),
        total(S[I] * G[I]): total(PI[I] * G[I]),
    }
    log_q = LOG_P[I] + THETA * F[I] - LOG_A
    log_s = LOG_P[I] + OTHER * F[I] + SECOND * G[I] - LOG_B
    d.equal(
        say("Of the members {} of a family with one feature and {} of the family with a second one, {}, the log-ratio.",
            Q, S, G[I]),
        log_s - log_q,
        step,
        scope=ANY_N,
    )  # fmt: skip
    whole = Short("KL(pi || q)", mean(sp.log(PI[I]) - log_q))
    smaller = Short("KL(pi || s)", mean(sp.log(PI[I]) - log_s))
    between = Short("KL(s || q)", total(S[I] * step))
    return d.equal(
        say("The closest member by both features has the policy's means of both, so the log-ratio has the same mean "
            "under it and under the policy."),
        whole - smaller,
        rest * between,
        given=same,
        scope=ANY_N,
    )  # fmt: skip


def _deviance_numbers(d: Derivation, parts: Any) -> None:
    """Compare the package's split with SciPy's minimisation over the features, family by family."""
    from scipy.optimize import minimize
    from scipy.special import rel_entr

    gaps, sums, sharpened = [], [], []
    for _ in range(8):
        n = int(d.rng.integers(4, 9))
        p, pi = d.rng.dirichlet(np.ones(n)) + 1e-3, d.rng.dirichlet(np.ones(n)) + 1e-3
        p, pi = p / p.sum(), pi / pi.sum()
        r, length = np.array([0.0, 1.0, *d.rng.integers(0, 2, n - 2)]), d.rng.integers(1, 6, n).astype(float)
        found = deviance.split([Problem(p, r, length)], [pi])
        columns = {"sharpening": np.log(p), "reward": r, "length": length}
        for size in (1, 2, 3):
            for names in itertools.combinations(columns, size):
                features = np.stack([columns[name] for name in names], axis=1)

                def loss(theta: np.ndarray, x: np.ndarray = features, p: np.ndarray = p, pi: np.ndarray = pi) -> float:
                    # Asked thousands of times: SciPy's logsumexp takes many times as long for a few numbers.
                    return float(np.logaddexp.reduce(np.log(p) + x @ theta) - pi @ (x @ theta))

                least = minimize(loss, np.zeros(size), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13,
                                                                                     "maxiter": 20_000})  # fmt: skip
                gaps.append(max(0.0, -least.fun - found.explained(*names)))  # no member does better
        sums += [sum(found.shapley.values()) + found.rest - float(rel_entr(pi, p).sum())]
        power = p**2.5 / np.sum(p**2.5)
        alone = deviance.split([Problem(p, r, length)], [power])
        sharpened += [alone.kl - alone.explained("sharpening"), float(alone.alpha or 0.0) - 2.5]
    drawn = say("{} random problems", 8)
    d.confirm(say("SciPy finds no member of a family that explains more."), parts, gaps, 1e-9, drawn)
    d.confirm(say("The parts of the package's split and the rest add up to SciPy's divergence."), parts, sums, 1e-9,
              drawn)  # fmt: skip
    d.confirm(say("A power is explained by sharpening alone, with its own exponent."), parts, sharpened, 1e-6, drawn)


T15 = Theorem("T15", "Certified response", certified_response)
T16 = Theorem("T16", "Analysis of deviance", deviance_analysis)
