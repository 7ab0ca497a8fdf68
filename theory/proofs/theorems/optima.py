"""T1 to T3: where the objective is largest, with and without entropy, and in the limits of its weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import Coefficients, Objective, functional
from sharpen.theory.proofs.notation import Short, by_sign, by_value, numeric, runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, N, P, R, U, Z, derivative, limit, mean, total

W_R, W_P = sp.symbols("w_r w_p", real=True)
W_H = sp.Symbol("w_h", positive=True)
LAMBDA = sp.Symbol("lambda", real=True)
ALPHA = sp.Symbol("alpha", positive=True)
ADVANTAGE = U[I] - W_H * sp.log(PI[I])
GIBBS = sp.exp(U[K] / W_H) / Z
TIME = sp.Symbol("t", positive=True)
Q: Any = sp.IndexedBase("q", positive=True)  # the policy that a flow starts from
POLICY, REFERENCE, REWARD, POTENTIAL = sp.symbols("pi p r u")  # in words
VALUE = Short("J", mean(ADVANTAGE))
OBJECTIVES = (
    Objective(alpha=2.0),
    Objective(alpha=0.5, normalization="mean"),
    Objective(alpha=4.0, beta_inv=3.0),
    Objective(alpha=1.25, beta_inv=0.5, normalization="weighted_mean", weight=0.5),
)


def gibbs(d: Derivation, *, optimum: Any = GIBBS, gap: sp.Expr = W_H) -> None:
    """Derive the Gibbs optimum.

    Args:
        d: Takes the steps.
        optimum: Claimed pi*_k.
        gap: Claimed factor of the divergence in J* - J.
    """
    potential = _potentials(d)
    lagrangian = mean(ADVANTAGE) + LAMBDA * (1 - total(PI[I]))
    slope = d.equal(
        say("The objective {} of a policy {}. The derivative of its Lagrangian for policies that sum to one.",
            VALUE, POLICY),
        sp.Derivative(Short("L", lagrangian), PI[K]),
        U[K] - W_H * sp.log(PI[K]) - W_H - LAMBDA,
        scope=ANY_N,
    ).rhs  # fmt: skip
    best = Short("pi^*_k", optimum)
    level = W_H * sp.log(Z) - W_H
    d.equal(
        say("It is zero at {} for every {}, with one {}: a stationary policy.", best, K, LAMBDA),
        sp.Subs(slope, (PI[K], LAMBDA), (best, level)),
        0,
        given={LAMBDA: level},
        scope=ANY_N,
    )
    at_optimum = optimum.subs(K, I)
    partition = {total(sp.exp(U[I] / W_H)): Z}
    largest = Short("J^*", total(at_optimum * (U[I] - W_H * sp.log(at_optimum))))
    value = d.equal(say("Its value."), largest, W_H * sp.log(Z), given=partition, scope=ANY_N)
    divergence = Short("KL(pi || pi^*)", mean(sp.log(PI[I]) - sp.log(at_optimum)))
    lost = d.equal(
        say("What any other policy loses, by the divergence."),
        largest - VALUE,
        gap * divergence,
        given={**NORMALISED, **partition},
        scope=ANY_N,
    )
    curvature = _curvature(d, slope)
    _gibbs_numbers(d, gap, value, lost)
    d.state(
        "With entropy, {}, the only {} of {} is {} with {}, and it is worth {}. Any other policy loses by its "
        "divergence: {}.",
        sp.Gt(W_H, 0, evaluate=False), by_sign(curvature, "maximum", "minimum"), VALUE,
        best.definition, potential, value, lost,
    )  # fmt: skip


def _curvature(d: Derivation, slope: Any) -> Any:
    """Add what curves the objective; return what an outcome adds along a direction."""
    direction: Any = sp.IndexedBase("v", real=True)
    first = derivative(mean(ADVANTAGE), PI[K])
    d.equal(
        say("The Hessian of {} is diagonal.", VALUE),
        sp.Matrix([sp.Derivative(slope, PI[K]), sp.Derivative(first, PI[J])]),
        sp.Matrix([-W_H / PI[K], -W_H * sp.KroneckerDelta(J, K) / PI[K]]),
        scope=ANY_N,
    )
    curvature = -W_H * direction[K] ** 2 / PI[K]
    d.has_sign(
        say("So this is what each outcome adds along a direction {}, those that sum to zero among them, and it is zero "
            "only where the direction is: the stationary policy is the only {}.",
            direction, by_sign(curvature, "maximum", "minimum")),
        curvature,
        "nonpositive",
        scope=ANY_N,
    )  # fmt: skip
    return curvature


def _potentials(d: Derivation) -> Any:
    """Say what u is with length normalisation, and what the Gibbs optimum's exponent is; return u's equation."""
    r, ell, pi = sp.Symbol("r", real=True), sp.Symbol("ell", real=True), sp.Symbol("pi", positive=True)
    w_r, w_p, w_h = symbols = sp.symbols("w_r w_p w_h")
    d.equal(
        say("The package's pseudo-reward, called with symbols, {} for the log-probability under the reference and no "
            "length: a potential and an entropy.", ell),
        functional.pseudo_reward(Coefficients(*symbols), r, ell, sp.log(pi), None, 0.0),
        w_r * r + w_p * ell - w_h * sp.log(pi),
        name="A",
    )  # fmt: skip
    length, exponent = sp.Symbol("|x|", positive=True), sp.Symbol("w", real=True)
    score = ell / length**exponent
    extra, rest = functional.Coefficients(w_r, w_p, 0.0), functional.Coefficients(0.0, w_p, w_p)
    potential = d.equal(
        say("With length normalisation only the extra likelihood is divided by a power of the length, not the "
            "divergence's log-probability {}: these are the terms that the package adds.", ell),
        functional.potential(extra, r, score, None, 0.0).subs(w_p, w_p - w_h)
        + functional.potential(rest, None, ell, None, 0.0).subs(w_p, w_h),
        w_r * r + (w_p - w_h) * score + w_h * ell,
        name="u",
    )  # fmt: skip
    b: Any = sp.Symbol("beta_inv", positive=True)
    for words, beta_inv, claimed in (("tilted", b, b * r), ("tempered", 0, sp.Integer(0))):
        weights = functional.coefficients(ALPHA, beta_inv, "sampling", "sum")  # pyright: ignore[reportArgumentType]
        found = sp.nsimplify(functional.potential(weights, r, ell, None, 0.0) / weights.w_h)
        text = say(f"The exponent of the optimum with the package's weights of the {words} regime.")
        d.equal(text, found, ALPHA * ell + claimed, name="u/w_h", scope=say("mode sampling"))
    return potential


def _gibbs_numbers(d: Derivation, gap: sp.Expr, value: Any, lost: Any) -> None:
    """Compare with the package's numbers and with an optimizer that knows J only."""
    from scipy.optimize import minimize

    linked, gaps, losses = [], [], []
    factor = numeric(gap, W_H)
    for objective in OBJECTIVES:
        for _ in range(5):
            n = int(d.rng.integers(2, 7))
            p, pi, r = d.rng.dirichlet(np.ones(n)), d.rng.dirichlet(np.ones(n)), d.rng.normal(size=n)
            given = {"reward": r, "ref_logprob": np.log(p), "length": d.rng.integers(1, 9, n).astype(float)}
            u, w_h = objective.potential(**given), objective.coefficients.w_h
            linked.append(float(objective.value(policy_logprob=np.log(pi), **given)) - pi @ (u - w_h * np.log(pi)))
            best = np.exp(u / w_h - np.logaddexp.reduce(u / w_h))
            j_best, j = (float(objective.value(policy_logprob=np.log(x), **given)) for x in (best, pi))
            gaps.append(j_best - j - factor(w_h) * float(pi @ np.log(pi / best)))

            def loss(theta: np.ndarray, given: dict = given, objective: Objective = objective) -> float:
                return -float(objective.value(policy_logprob=theta - np.logaddexp.reduce(theta), **given))

            losses.append(-minimize(loss, np.zeros(n), jac="3-point", options={"gtol": 1e-10}).fun - j_best)
    drawn = say("{} random problems, every length normalization", len(gaps))
    d.confirm(say("The package's value is the symbolic one."), VALUE.definition, linked, 1e-11, drawn)
    d.confirm(say("The loss of random policies is the divergence."), lost, gaps, 1e-10, drawn)
    d.confirm(say("SciPy's BFGS over logits climbs to this value and no higher."), value, losses, 1e-8, drawn)


def face(d: Derivation, *, conserved: int = 0, decides: int = 0) -> None:
    """Derive the optima without entropy.

    Args:
        d: Takes the steps.
        conserved: Claimed d/dt log(pi_i / pi_j) inside the face.
        decides: Claimed outcome, the mode first, whose label is the accuracy of sharpening in the end.
    """
    top = sp.Symbol("u_max", real=True)
    missed = d.equal(
        say("Without entropy the objective is linear in the policy, and short of its best value by the mean "
            "shortfall."),
        top - mean(U[I]),
        mean(top - U[I]),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    shortfall: Any = sp.IndexedBase("g", positive=True)
    d.has_sign(
        say("Each outcome with a shortfall {} costs something: the optimal policies are those supported on the "
            "outcomes without, all of them.", shortfall),
        PI[K] * shortfall[K],
        "positive",
        scope=ANY_N,
    )  # fmt: skip
    weight = Q[I] * sp.exp(U[I] * TIME)
    moving = Short("pi_k(t)", Q[K] * sp.exp(U[K] * TIME) / total(weight))
    flow = d.equal(
        say("The natural gradient moves an outcome by its probability and its advantage (T12). From any policy {} "
            "this solves it.", Q),
        sp.Derivative(moving, TIME),
        moving * (U[K] - total(weight * U[I]) / total(weight)),
        scope=ANY_N,
    )  # fmt: skip
    odds = sp.log(Q[J] * sp.exp(U[J] * TIME) / (Q[K] * sp.exp(U[K] * TIME)))
    kept = d.equal(
        say("Inside the face the potentials are equal, and the log-odds of two outcomes keep their value."),
        sp.Subs(sp.Derivative(odds, TIME), U[J], U[K]),
        conserved,
        scope=ANY_N,
    )
    ends = _end_of_flow(d, moving)
    decided = _mode_decides(d, decides)
    _face_numbers(d, ends)
    d.state(
        "Without entropy every policy on the face, the outcomes of best potential {}, is optimal: {}. The natural "
        "gradient, {}, keeps the odds inside the face, {}, and ends at the start {} conditioned on it: {}. For a task "
        "reward the face is the correct set; for sharpening it is the mode of {}, and its label decides: {}.",
        POTENTIAL, missed, flow, kept, Q, ends, REFERENCE, decided,
    )  # fmt: skip


def _end_of_flow(d: Derivation, moving: Short) -> Any:
    """Add where the flow ends, and return that limit."""
    g, q_j, q_k, rest = sp.symbols("g q_j q_k q_rest", positive=True)
    inside = sp.Symbol("q_face", positive=True)
    gone = sp.exp(-g * TIME)
    d.limit(
        say("The odds of an outcome outside, of a potential that is short by {}, against one inside.", g),
        q_j / q_k * gone,
        TIME,
        sp.oo,
        0,
        scope=ANY_N,
    )
    return d.limit(
        say("So the flow ends at its start conditioned on the face: with {} for the start's mass there and {} for the "
            "rest, all of it short by {}, which {}.", inside, rest, g,
            by_value(sp.Limit(rest * gone, TIME, sp.oo), "is lost", "takes over")),
        q_k / (inside + rest * gone),
        TIME,
        sp.oo,
        q_k / inside,
        scope=ANY_N,
    )  # fmt: skip


def _mode_decides(d: Derivation, decides: int) -> Any:
    """Check the accuracy of sharpening and of task reward on every labelling of four outcomes."""
    p = [sp.Rational(4, 10), sp.Rational(3, 10), sp.Rational(2, 10), sp.Rational(1, 10)]
    verdicts = []
    sharpened = [limit(1 / sum((y / x) ** TIME for y in p), TIME, sp.oo) for x in p]  # u = log p
    for labels in itertools.product([0, 1], repeat=4):
        verdicts.append(sum(r * x for r, x in zip(labels, sharpened, strict=True)) == labels[decides])
        if any(labels):  # the task reward: u = r
            weights = [x * sp.exp(r * TIME) for x, r in zip(p, labels, strict=True)]
            correct = sum(x for x, r in zip(weights, labels, strict=True) if r)
            verdicts.append(limit(sp.cancel(correct / sum(weights)), TIME, sp.oo) == 1)
    ranked: Any = sp.IndexedBase("r")  # rewards, the likeliest outcome's first
    claim = sp.Eq(sp.Limit(sp.Symbol("E[r]"), TIME, sp.oo), ranked[decides + 1], evaluate=False)
    return d.check(
        say("With the log-likelihood as potential the face is the mode, so accuracy ends with the label of that "
            "outcome (they are numbered from the likeliest on); with the task reward it ends at one whenever some "
            "outcome is correct."),
        claim,
        verdicts,
        say("every labelling of {}", runs(REFERENCE, p)),
        again=True,
    )  # fmt: skip


def _face_numbers(d: Derivation, ends: Any) -> None:
    from scipy.integrate import solve_ivp

    errors = []
    for _ in range(10):
        n = int(d.rng.integers(3, 7))
        p, u = d.rng.dirichlet(np.ones(n)), d.rng.integers(0, 2, n).astype(float)
        u[0] = 1.0

        def velocity(_: float, pi: np.ndarray, u: np.ndarray = u) -> np.ndarray:
            return pi * (u - pi @ u)

        end = solve_ivp(velocity, (0.0, 40.0), p, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
        errors.append(np.max(np.abs(end - p * u / (p @ u))))
    words = say("An ODE solver ends at the start conditioned on the face.")
    d.confirm(words, ends, errors, 1e-8, say("{} random problems", 10))


def limits(d: Derivation, *, concentrated: int = 0, kept: Any = ALPHA) -> None:
    """Derive the limits.

    Args:
        d: Takes the steps.
        concentrated: Claimed limit of the odds of an outcome below the best.
        kept: Claimed exponent of p on arg max r as beta_inv grows.
    """
    b = sp.Symbol("beta_inv", positive=True)
    g, p_j, p_k = sp.symbols("g p_j p_k", positive=True)
    odds = (p_j / p_k) ** ALPHA
    tilted = d.limit(
        say("A policy is determined by its odds. In {} they are these, of an outcome whose reward is short by {} "
            "against one of best reward.", b, g),
        odds * sp.exp(-b * g),
        b,
        sp.oo,
        concentrated,
        scope=ANY_N,
    )  # fmt: skip
    tied = odds * sp.exp(b * (R[J] - R[K]))
    restricted = d.equal(
        say("Two outcomes of equal reward keep the odds of the power whatever {} is.", b),
        sp.Subs(tied, R[J], R[K]),
        (p_j / p_k) ** kept,
        scope=ANY_N,
    )
    sharp = d.limit(
        say("In {} these are the odds of an outcome against one of best likelihood whose log-likelihood is short by "
            "{}; equals stay equals.", ALPHA, g),
        sp.exp(-g * ALPHA),
        ALPHA,
        sp.oo,
        concentrated,
        scope=ANY_N,
    )  # fmt: skip
    body = P[K] ** ALPHA * sp.exp(b * R[K])
    optimum = Short("pi^*_k", body / Short("Z", total(body.subs(K, I))))
    alone = d.equal(
        say("Where the weights are continuous the reference is its own optimum."),
        sp.Subs(optimum, (ALPHA, b), (1, 0)),
        P[K],
        given={total(P[I]): sp.Integer(1)},
        scope=ANY_N,
    )
    uniform = _three_outcomes(d, b, kept)
    _limit_numbers(d, numeric(kept, ALPHA), restricted, uniform)
    d.state(
        "The optimum {}. As {} goes to its limit only outcomes of best reward are left, {}, with the odds {}. As {} "
        "does, for {} left out, only outcomes of best likelihood are left, {}, all alike: {}. And {}.",
        optimum.definition, b, tilted, restricted, ALPHA, b, sharp, uniform, alone,
    )  # fmt: skip


def _three_outcomes(d: Derivation, b: sp.Symbol, exponent: Any) -> Any:
    """Take the limits again, of the whole policy at n = 3 with every pattern of ties; return that of equals."""
    p = sp.symbols("p_1:4", positive=True)
    tilted, sharp, ties = [], [], []
    for labels in itertools.product([0, 1], repeat=3):
        if not any(labels):
            continue
        kept = sum(x**exponent for x, r in zip(p, labels, strict=True) if r)
        for k in range(3):
            odds = [(x / p[k]) ** ALPHA * sp.exp(b * (r - labels[k])) for x, r in zip(p, labels, strict=True)]
            expected = p[k] ** exponent / kept if labels[k] else sp.Integer(0)
            tilted.append(sp.simplify(limit(1 / sum(odds), b, sp.oo) - expected) == 0)
        ties.append(sp.exp(-ALPHA * (1 - labels[0])) / sum(sp.exp(-ALPHA * (1 - r)) for r in labels))
        drop = [sp.exp(-ALPHA * (1 - r) * (i + 1)) for i, r in enumerate(labels)]
        for k in range(3):
            expected = sp.Rational(labels[k], sum(labels))
            sharp.append(limit(drop[k] / sum(drop), ALPHA, sp.oo) == expected)
    weights = [x**ALPHA * sp.exp(b * r) for x, r in zip(p, (1, 1, 0), strict=True)]
    shown = sp.Eq(
        sp.Limit(weights[0] / sp.Add(*weights), b, sp.oo),
        p[0] ** exponent / (p[0] ** exponent + p[1] ** exponent),
        evaluate=False,
    )
    text = say("The same limit of whole policies on three outcomes, with every pattern of ties, here of two.")
    d.check(text, shown, tilted, say("{}", runs(N, [3])), again=True)
    text = say("That in {} likewise: {} outcomes of best likelihood share evenly.", ALPHA, N)
    best, rest, g = sp.Symbol("n", integer=True, positive=True), *sp.symbols("m g", positive=True)
    d.check(text, sp.Symbol("pi^*_k"), sharp, say("{}", runs(N, [3])), again=True)
    return d.limit(
        say("Of any number: {} of best likelihood and {} with a log-likelihood that is short by {}.", best, rest, g),
        1 / (best + rest * sp.exp(-g * ALPHA)),
        ALPHA,
        sp.oo,
        1 / best,
    )


def _limit_numbers(d: Derivation, exponent: Callable[..., float], restricted: Any, uniform: Any) -> None:
    """Compare with mpmath at weights of 10^4, in 60 digits."""
    import mpmath

    tilted, sharp = [], []
    with mpmath.workdps(60):
        for _ in range(20):
            n = int(d.rng.integers(2, 9))
            p, r = d.rng.dirichlet(np.ones(n)), d.rng.integers(0, 2, n)
            r[0], alpha = 1, float(d.rng.uniform(0.3, 3.0))
            weights = [mpmath.mpf(x) ** alpha * mpmath.exp(10**4 * int(y)) for x, y in zip(p, r, strict=True)]
            powers_kept = p ** exponent(alpha)
            kept = (powers_kept * r) / (powers_kept @ r)
            tilted += [float(w / mpmath.fsum(weights)) - x for w, x in zip(weights, kept, strict=True)]
            tied = [mpmath.mpf(int(x)) for x in d.rng.integers(1, 4, n)]
            powers = [x**10000 for x in tied]
            winners = [x == max(tied) for x in tied]
            sharp += [float(x / mpmath.fsum(powers)) - y / sum(winners) for x, y in zip(powers, winners, strict=True)]
    drawn = say("{} random problems", 20)
    d.confirm(say("Weights of {} in many digits agree.", 10**4), restricted, tilted, 1e-12, drawn)
    d.confirm(say("In the other limit, too."), uniform, sharp, 1e-12, drawn)


T1 = Theorem("T1", "Gibbs optimum", gibbs)
T2 = Theorem("T2", "Optima without entropy are a face", face)
T3 = Theorem("T3", "Limits of the weights", limits)
