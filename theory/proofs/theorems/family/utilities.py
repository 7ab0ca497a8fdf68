"""T17 to T20: an exponent for right answers, utilities of the success rate, their estimators, a verifier that errs."""

from __future__ import annotations

import itertools
from typing import Any

import sympy as sp

from sharpen.objective import Coefficients, functional
from sharpen.theory.proofs.notation import Short, by_sign, by_value, runs
from sharpen.theory.proofs.numbers import utilities as numbers
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import AN_EXAMPLE, ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import LOG_P, NORMALISED, PI, I, J, K, R, U, mean, total

RIGHT_POWER, WRONG_POWER, BETA_INV = sp.symbols("alpha_right alpha_wrong beta_inv", positive=True)
POWER = WRONG_POWER + (RIGHT_POWER - WRONG_POWER) * R[I]
Q: Any = sp.IndexedBase("q", positive=True)  # the tilted policy
S: Any = sp.IndexedBase("s", real=True)  # a score, the derivative of log pi in one parameter
X, START, TILT, LOG_Z = sp.symbols("x x_0 tau A", real=True)  # log-odds; what is added to right logits; its normaliser
BETA, WEIGHT, LEAST = sp.symbols("beta w epsilon", positive=True)  # of the KL; 1 / beta; 1 - P
SUCCESS = sp.Symbol("P", positive=True)
K_TRIES = sp.Symbol("k", integer=True, positive=True)
P_OF_X = 1 / (1 + sp.exp(-X))
ARCSINE_SLOPE = 2 * sp.cosh(X / 2)
AT_FOLD = (1 + BETA / sp.sqrt(1 + BETA**2)) / 2
FOLD = 2 * sp.asinh(BETA) - 2 * sp.sqrt(1 + 1 / BETA**2)
GROUP = sp.Symbol("G", integer=True, positive=True)
AGAINST, BASE_AGAINST = sp.symbols("o o_0", positive=True)  # odds against being right
TRUE_RATE, FALSE_RATE = sp.symbols("t f", positive=True)
GAP = sp.Symbol("g", positive=True)


def right_exponent(
    d: Derivation,
    *,
    power: sp.Expr = POWER,
    right: sp.Expr = RIGHT_POWER,
    wrong: sp.Expr = WRONG_POWER,
    response: int = 1,
) -> None:
    """Derive the optimum with one exponent for right answers and one for wrong ones.

    Args:
        d: Takes the steps.
        power: Claimed exponent of an outcome's likelihood.
        right: Claimed slope of the log-odds of two right outcomes in their log-likelihoods.
        wrong: Claimed slope of those of two wrong ones.
        response: Claimed factor of the covariance in the response.
    """
    weights = Coefficients(BETA_INV, WRONG_POWER, 1)  # pyright: ignore[reportArgumentType]

    def level(reward: Any, log_p: Any) -> Any:
        extra: Any = RIGHT_POWER - WRONG_POWER
        return functional.potential(weights, reward, log_p, None, 0.0, right=extra)

    shown = d.equal(
        say("The objective's potential, for entropy of weight {}.", 1),
        sp.nsimplify(level(R[I], LOG_P[I])),
        BETA_INV * R[I] + power * LOG_P[I],
        name="u",
        scope=ANY_N,
    )
    log_z = sp.log(total(sp.exp(U[I])))
    d.equal(
        say("What a policy misses of the best value is its divergence from the one with weights {}: that one is the "
            "only optimum.", sp.exp(U[I])),
        log_z - Short("J", mean(U[I] - sp.log(PI[I]))),
        Short("KL(pi || pi^*)", mean(sp.log(PI[I]) - U[I] + log_z)),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    odds = [
        d.equal(
            say("Two {} outcomes have these log-odds.", say("right" if value else "wrong")),
            sp.nsimplify(level(value, LOG_P[J]) - level(value, LOG_P[K])),
            slope * (LOG_P[J] - LOG_P[K]),
            name="log odds_right" if value else "log odds_wrong",
            scope=ANY_N,
        )
        for value, slope in ((sp.Integer(1), right), (sp.Integer(0), wrong))
    ]
    even = d.equal(
        say("With an exponent of {} for right answers they share their mass in equal parts.", 0),
        sp.Subs(odds[0].lhs, RIGHT_POWER, 0),
        sp.Integer(0),
        scope=ANY_N,
    )
    law = sp.exp(BETA_INV * R[I] + POWER * LOG_P[I])

    def average(values: Any) -> Any:
        return total(law * values) / total(law)

    covariance = average(R[I] ** 2 * LOG_P[I]) - average(R[I]) * average(R[I] * LOG_P[I])
    slope = d.equal(
        say("What the exponent of right answers does to the expected reward."),
        sp.Derivative(Short("E[r]", average(R[I])), RIGHT_POWER),
        response * Short("Cov(r, r log p)", covariance),
        scope=ANY_N,
    )
    numbers.compare_exponents(d, slope)
    d.state(
        "With the exponents {} and {} of right and wrong answers, {}, so {} and {}; at {} of the first, {}. The "
        "expected reward has the slope {}.",
        RIGHT_POWER, WRONG_POWER, shown, odds[0], odds[1], 0, even, slope,
    )  # fmt: skip


def success_utility(
    d: Derivation,
    *,
    rest: int = 1,
    slope: sp.Expr = ARCSINE_SLOPE,
    fold: sp.Expr = FOLD,
    at_fold: sp.Expr = AT_FOLD,
) -> None:
    """Derive the optima of a utility of the success rate with a KL penalty, and GRPO's fold.

    Args:
        d: Takes the steps.
        rest: Claimed factor of what a policy loses to the tilt of its success rate.
        slope: Claimed slope of the arcsine utility in the log-odds.
        fold: Claimed log-odds of the base at the fold.
        at_fold: Claimed success rate there.
    """
    log_q = LOG_P[I] + TILT * R[I] - LOG_Z
    same = {total(PI[I]): sp.Integer(1), total(Q[I]): sp.Integer(1), total(Q[I] * R[I]): mean(R[I])}
    tilt = d.equal(
        say("Of all policies with one success rate the tilt {} is the nearest: another one is further away by its "
            "divergence from it. So whatever the utility is, its optimum is a tilt.", Q),
        Short("KL(pi || p)", mean(sp.log(PI[I]) - LOG_P[I])) - Short("KL(q || p)", total(Q[I] * (log_q - LOG_P[I]))),
        rest * Short("KL(pi || q)", mean(sp.log(PI[I]) - log_q)),
        given=same,
        scope=ANY_N,
    )  # fmt: skip
    rate, base = 1 / (1 + AGAINST), 1 / (1 + BASE_AGAINST)
    divergence = rate * sp.log(rate / base) + (1 - rate) * sp.log((1 - rate) / (1 - base))
    marginal = d.equal(
        say("Its divergence, with the odds {} against being right and those {} of the base, has this slope in the "
            "success rate {}: so the optimum's log-odds differ from the base's by the slope of the utility, over the "
            "weight of the divergence.", AGAINST, BASE_AGAINST, rate),
        sp.Derivative(Short("KL(q || p)", divergence), AGAINST) / sp.Derivative(rate, AGAINST),
        sp.log(BASE_AGAINST) - sp.log(AGAINST),
    )  # fmt: skip
    _concave(d)
    arcsine = 2 * sp.asin(sp.sqrt(SUCCESS))
    d.equal(
        say("The arcsine utility, in the log-odds {}.", X),
        sp.Subs(sp.Derivative(Short("f_arcsin", arcsine), SUCCESS), SUCCESS, P_OF_X),
        slope,
        by=sp.exp(X / 2) + sp.exp(-X / 2),
    )
    found = _fold(d, slope, fold, at_fold)
    numbers.compare_solutions(d, marginal, found[0])
    d.state(
        "The optimum of a utility of the success rate is a tilt, as {}. GRPO's, the arcsine, has an "
        "interior one up to a base of log-odds {}; there {}. And near certainty "
        "the divergence's slope {} against the utility's, {}, "
        "whatever its weight.",
        tilt, found[0], found[1], by_value(found[2].rhs, "is lost"), found[2],
    )  # fmt: skip


def _concave(d: Derivation) -> None:
    """Show that the equations of the log and of pass@k have one solution."""
    for name, slope, words in (
        ("log", 1 + sp.exp(-X), say("The logarithm as utility: what is needed less what there is, in the log-odds.")),
        ("pass", K_TRIES * (1 + sp.exp(X)) ** (1 - K_TRIES), say("The same for pass@k.")),
    ):
        d.has_sign(
            say("{} It goes one way, so it is zero in one place.", words),
            sp.Derivative(X - START - slope / BETA, X),
            "positive",
            name=f"excess_{name}",
            by=1 + sp.exp(-X) / BETA
            if name == "log"
            else 1 + K_TRIES * (K_TRIES - 1) * sp.exp(X) * (1 + sp.exp(X)) ** (-K_TRIES) / BETA,
        )


def _fold(d: Derivation, slope: Any, fold: Any, at_fold: Any) -> tuple[Any, Any, Any]:
    """Derive where the two solutions of the arcsine meet; return base, success rate, and what is lost at certainty."""
    excess = Short("D", slope / BETA - (X - START))
    d.has_sign(
        say("What the arcsine offers less what is needed is convex in the log-odds: two solutions, or one, or none."),
        sp.Derivative(excess, (X, 2)),
        "positive",
    )
    place = 2 * sp.asinh(BETA)
    d.equal(say("It is lowest here."), sp.Subs(sp.Derivative(excess, X), X, place), sp.Integer(0))
    border = d.equal(
        say("And the lowest value is zero for a base of these log-odds, the fold: beyond them it has no solution."),
        Short("x_fold", START - evaluate_at(excess, place)),
        fold,
    )
    rate = d.equal(say("The success rate there."), Short("P_fold", P_OF_X.subs(X, place.rewrite(sp.log))), at_fold)
    for beta, sign in ((2, "negative"), (sp.Rational(1, 2), "positive")):
        d.compare(
            say("A base that is right once in {} tries, with the weight {} of the KL: the log-odds less the fold's.",
                20, sp.Integer(beta) if beta == 2 else beta),
            -sp.log(19), sign, fold.subs(BETA, beta), scope=AN_EXAMPLE,
        )  # fmt: skip
    lost = d.limit(
        say("Near certainty, {} from it, the slope of the divergence over that of the utility.", LEAST),
        BETA * sp.log((1 - LEAST) / LEAST) * sp.sqrt(LEAST * (1 - LEAST)),
        LEAST,
        sp.Integer(0),
        sp.Integer(0),
    )
    return border, rate, lost


def evaluate_at(excess: Short, place: Any) -> Any:
    """Return the value of a named expression at a place."""
    return excess.value.subs(X, place)


def likelihood_order(d: Derivation, *, zero: sp.Expr = GROUP - 1, minus: sp.Expr = GROUP) -> None:
    """Derive which utility the estimators of maximum likelihood ascend.

    Args:
        d: Takes the steps.
        zero: Claimed order with all-wrong groups set to zero.
        minus: Claimed order with minus one in them.
    """
    spread = mean(R[I] * S[I]) / mean(R[I]) - mean((1 - R[I]) * S[I]) / mean(1 - R[I])
    score = d.equal(
        say("Scores {} have no mean, so the gradient of the success rate is this difference between right and wrong.",
            S[I]),
        mean(R[I]) * mean(1 - R[I]) * Short("gap in s", spread),
        Short("dP", mean(R[I] * S[I])),
        given={**NORMALISED, mean(S[I]): sp.Integer(0)},
        scope=ANY_N,
    )  # fmt: skip
    sizes = runs(GROUP, (2, 3, 4, 5, 6))
    claims = []
    for name, order, empty in (("zero", zero, 0), ("minus", minus, -1)):
        utility = Short(f"slope_{name}", (1 - (1 - SUCCESS) ** order) / SUCCESS)
        whole = (1 - SUCCESS) - (1 - SUCCESS) ** GROUP * (1 + empty * SUCCESS)
        claims.append(
            d.equal(
                say("By linearity the mean of the wrong share is {}; all-wrong groups take this from it. Over the "
                    "gradient of the success rate.", 1 - SUCCESS),
                Short(f"E_{name}", whole / (SUCCESS * (1 - SUCCESS))),
                utility,
            )
        )  # fmt: skip
        pairs = [
            (groups_mean(int(size), empty), SUCCESS * (1 - SUCCESS) * utility.value.subs(GROUP, int(size)))
            for size in sizes
        ]
        d.cases(say("All groups of right and wrong samples, one by one."), claims[-1], pairs, say("{}", sizes))
        series = [
            (
                sp.diff(-sum((1 - SUCCESS) ** k / k for k in range(1, last(order, size) + 1)), SUCCESS),
                utility.value.subs(GROUP, int(size)),
            )
            for size in sizes
        ]
        d.cases(
            say("It is the slope of the series of the logarithm, cut after so many terms: {}.", order),
            utility, series, say("{}", sizes),
        )  # fmt: skip
    pair = d.equal(
        say("In pairs, with zeros, nothing is left of the logarithm."),
        sp.Subs(Short("slope_zero", (1 - (1 - SUCCESS) ** zero) / SUCCESS), GROUP, 2),
        sp.Integer(1),
    )
    numbers.compare_groups(d, claims[0], claims[1], zero, minus)
    d.state(
        "As {}, advantages over the group's mean ascend the series of the logarithm to the order {} if all-wrong "
        "groups "
        "are set to zero, {}, and to the order {} if they count as a loss, {}. In pairs {}.",
        score, zero, claims[0], minus, claims[1], pair,
    )  # fmt: skip


def last(order: Any, size: Any) -> int:
    """Return the order for groups of a size, a number."""
    return int(order.subs(GROUP, size))


def groups_mean(size: int, empty: int) -> Any:
    """Return the mean of (1/G) sum A_i s_i over all groups of two outcomes with scores 1 - P and -P."""
    found: Any = sp.Integer(0)
    for group in itertools.product((0, 1), repeat=size):
        share = sp.Rational(sum(group), size)
        advantages = [(r - share) / share if share else sp.Integer(empty) for r in group]
        chance = SUCCESS ** sum(group) * (1 - SUCCESS) ** (size - sum(group))
        found += chance * sum(a * (r - SUCCESS) for a, r in zip(advantages, group, strict=True)) / size
    return sp.expand(found)


def noisy_verifier(d: Derivation, *, factor: sp.Expr = TRUE_RATE - FALSE_RATE) -> None:
    """Derive what the errors of a verifier do to gradients.

    Args:
        d: Takes the steps.
        factor: Claimed factor of every exact gradient.
    """
    said = TRUE_RATE * R[I] + FALSE_RATE * (1 - R[I])
    shown = d.equal(
        say("A verifier that passes right answers with the rate {} and wrong ones with {} gives, in the mean.",
            TRUE_RATE, FALSE_RATE),
        Short("E[verdict]", said),
        FALSE_RATE + factor * R[I],
        scope=ANY_N,
    )  # fmt: skip
    gradient = d.equal(
        say("Scores have no mean, so the constant drops out of the gradient."),
        Short("dE[verdict]", mean(said * S[I])),
        factor * Short("dE[r]", mean(R[I] * S[I])),
        given={mean(S[I]): sp.Integer(0)},
        scope=ANY_N,
    )
    speed = d.equal(
        say("Along the natural gradient the success rate moves by a variance."),
        Short("dP/dt", _covariance(said)),
        factor * Short("Var(r)", mean(R[I] ** 2) - mean(R[I]) ** 2),
        given=NORMALISED,
        scope=ANY_N,
    )
    better = d.has_sign(
        say("A verifier that passes right answers more often than wrong ones, by {}.", GAP),
        factor.subs(TRUE_RATE, FALSE_RATE + GAP), "positive",
    )  # fmt: skip
    worse = d.has_sign(
        say("One that passes wrong ones more often."), factor.subs(FALSE_RATE, TRUE_RATE + GAP), "negative"
    )
    passes = FALSE_RATE + GAP * SUCCESS
    lost = d.limit(
        say("The share of signal in what one sample says, the factor's second power over the variance of the verdict, "
            "as the rates meet: the noise stays."),
        GAP**2 / (passes * (1 - passes)), GAP, sp.Integer(0), sp.Integer(0),
    )  # fmt: skip
    numbers.compare_verdicts(d, gradient, factor)
    d.state(
        "A verifier with errors gives {}, so {} and {}. With {} the success rate {}, with {} it {}. The signal {} "
        "where "
        "the rates meet, {}.",
        shown, gradient, speed, better, by_sign(better.lhs, "rises", "falls"), worse,
        by_sign(worse.lhs, "rises", "falls"), by_value(lost.rhs, "is lost"), lost,
    )  # fmt: skip


def _covariance(values: Any) -> Any:
    """Return Cov_pi(r, values)."""
    return mean(R[I] * values) - mean(R[I]) * mean(values)


T17 = Theorem("T17", "An exponent for right answers", right_exponent)
T18 = Theorem("T18", "Utilities of the success rate", success_utility)
T19 = Theorem("T19", "Order of maximum likelihood", likelihood_order)
T20 = Theorem("T20", "A verifier that errs", noisy_verifier)
