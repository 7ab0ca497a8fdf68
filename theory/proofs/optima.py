"""T1 to T3: where the objective is largest, with and without entropy, and in the limits of its weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import Coefficients, Objective, functional
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, N, P, R, U, Z, derivative, mean, total

W_R, W_P = sp.symbols("w_r w_p", real=True)
W_H = sp.Symbol("w_h", positive=True)
LAMBDA = sp.Symbol("lambda", real=True)
ALPHA = sp.Symbol("alpha", positive=True)
ADVANTAGE = U[I] - W_H * sp.log(PI[I])
GIBBS = sp.exp(U[K] / W_H) / Z
TIME = sp.Symbol("t", positive=True)
Q: Any = sp.IndexedBase("q", positive=True)  # the policy that a flow starts from
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
    r, ell, pi = sp.Symbol("r", real=True), sp.Symbol("ell", real=True), sp.Symbol("pi", positive=True)
    w_r, w_p, w_h = symbols = sp.symbols("w_r w_p w_h")
    weights = Coefficients(*symbols)
    d.equal(
        "The package's pseudo-reward, called with symbols (ell = log p, length exponent 0), is a potential u less "
        "w_h log pi.",
        functional.pseudo_reward(weights, r, ell, sp.log(pi), None, 0.0),
        w_r * r + w_p * ell - w_h * sp.log(pi),
        shown=sp.Symbol("A"),
    )
    _potentials(d)
    objective = mean(ADVANTAGE)
    lagrangian = objective + LAMBDA * (1 - total(PI[I]))
    slope = derivative(lagrangian, PI[K])
    d.equal(
        "J is the mean of u - w_h log pi. Its Lagrangian for policies that sum to one has this derivative.",
        slope,
        U[K] - W_H * sp.log(PI[K]) - W_H - LAMBDA,
        shown=sp.Derivative(lagrangian, PI[K]),
        scope=ANY_N,
    )
    d.equal(
        "At pi* = exp(u / w_h) / Z the derivative is zero for every k, with one lambda: pi* is stationary.",
        slope.subs(PI[K], optimum),
        0,
        given={LAMBDA: W_H * sp.log(Z) - W_H},
        shown=sp.Subs(slope, (PI[K], LAMBDA), (optimum, W_H * sp.log(Z) - W_H)),
        scope=ANY_N,
    )
    at_optimum = optimum.subs(K, I)
    value = total(at_optimum * (U[I] - W_H * sp.log(at_optimum)))
    d.equal(
        "Its value is w_h log Z (Z the sum of exp(u / w_h)).",
        value,
        W_H * sp.log(Z),
        given={total(sp.exp(U[I] / W_H)): Z},
        scope=ANY_N,
    )
    divergence = mean(sp.log(PI[I]) - sp.log(at_optimum))
    d.equal(
        "What any other policy loses is w_h times its divergence KL(pi || pi*).",
        W_H * sp.log(Z) - objective,
        gap * divergence,
        given=NORMALISED,
        scope=ANY_N,
    )
    direction: Any = sp.IndexedBase("v", real=True)
    d.equal(
        "The Hessian of J is diagonal, with entries -w_h / pi_k.",
        sp.Matrix([derivative(slope, PI[K]), derivative(derivative(objective, PI[K]), PI[J])]),
        sp.Matrix([-W_H / PI[K], -W_H * sp.KroneckerDelta(J, K) / PI[K]]),
        scope=ANY_N,
    )
    d.has_sign(
        "So along every direction v, those with sum zero among them, each outcome adds a curvature that is not "
        "positive, and less than zero where v is not zero: J is strictly concave and pi* its only maximum.",
        -W_H * direction[K] ** 2 / PI[K],
        "nonpositive",
        scope=ANY_N,
    )
    _gibbs_numbers(d, gap)


def _potentials(d: Derivation) -> None:
    """Say what u is with length normalisation, and what the Gibbs optimum's exponent is in both regimes."""
    w_r, w_p, w_h, r, ell = sp.symbols("w_r w_p w_h r ell")
    length, exponent = sp.Symbol("|x|", positive=True), sp.Symbol("w", real=True)
    score = ell / length**exponent
    extra, rest = functional.Coefficients(w_r, w_p, 0.0), functional.Coefficients(0.0, w_p, w_p)
    d.equal(
        "With length normalisation only the extra likelihood is divided by |x|^w, never the log p of the KL: u = w_r r "
        "+ (w_p - w_h) s + w_h log p with s = log p / |x|^w. Called with s the package adds these terms.",
        functional.potential(extra, r, score, None, 0.0).subs(w_p, w_p - w_h)
        + functional.potential(rest, None, ell, None, 0.0).subs(w_p, w_h),
        w_r * r + (w_p - w_h) * score + w_h * ell,
        shown=sp.Symbol("u"),
    )
    b: Any = sp.Symbol("beta_inv", positive=True)
    alpha: Any = ALPHA
    for words, beta_inv, claimed in (
        (
            "So exp(u / w_h) is p^alpha exp(beta_inv r) with the package's weights of the tilted regime (w = 0).",
            b,
            b * r,
        ),
        ("And p^alpha with those of the tempered one, beta_inv = 0.", 0, sp.Integer(0)),
    ):
        weights = functional.coefficients(alpha, beta_inv, "sampling", "sum")
        found = functional.potential(weights, r, ell, None, 0.0) / weights.w_h
        d.equal(words, sp.nsimplify(found), ALPHA * ell + claimed, shown=sp.Symbol("u") / W_H, scope="mode sampling")


def _gibbs_numbers(d: Derivation, gap: sp.Expr) -> None:
    """Compare with the package's numbers and with an optimizer that knows J only."""
    from scipy.optimize import minimize

    linked, gaps, losses = [], [], []
    factor = sp.lambdify(W_H, gap)
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
    shown = sp.Eq(sp.Symbol("J^*") - sp.Symbol("J"), gap * sp.Symbol("KL"), evaluate=False)
    drawn = f"{len(gaps)} random problems, every length normalization"
    j_of_pi = sp.Eq(sp.Symbol("J"), mean(ADVANTAGE), evaluate=False)
    d.confirm("The package's value of J is the symbolic one.", j_of_pi, linked, 1e-11, drawn)
    d.confirm("The loss of random policies is the divergence.", shown, gaps, 1e-10, drawn)
    best_value = sp.Eq(sp.Symbol("J^*"), W_H * sp.log(Z), evaluate=False)
    d.confirm("SciPy's BFGS over logits climbs to J* and no higher.", best_value, losses, 1e-8, drawn)


def face(d: Derivation, *, conserved: int = 0, decides: int = 0) -> None:
    """Derive the optima without entropy.

    Args:
        d: Takes the steps.
        conserved: Claimed d/dt log(pi_i / pi_j) inside the face.
        decides: Claimed outcome, the mode first, whose label is the accuracy of sharpening in the end.
    """
    top = sp.Symbol("u_max", real=True)
    d.equal(
        "Without entropy J = E[u] is linear in the policy: it falls short of the largest u by the mean shortfall.",
        top - mean(U[I]),
        mean(top - U[I]),
        given=NORMALISED,
        scope=ANY_N,
    )
    shortfall: Any = sp.IndexedBase("g", positive=True)
    d.has_sign(
        "Each outcome of positive probability and shortfall g > 0 costs something: J is largest exactly on the "
        "policies supported on arg max u, all of them.",
        PI[K] * shortfall[K],
        "positive",
        scope=ANY_N,
    )
    weight = Q[I] * sp.exp(U[I] * TIME)
    moving = Q[K] * sp.exp(U[K] * TIME) / total(weight)
    d.equal(
        "The natural gradient moves pi_k at the speed pi_k (u_k - E[u]) (T12). From any policy q, pi_k = q_k exp(u_k "
        "t) / Z solves it.",
        sp.diff(moving, TIME),
        moving * (U[K] - total(weight * U[I]) / total(weight)),
        shown=sp.Derivative(sp.Function("pi_k")(TIME), TIME),
        scope=ANY_N,
    )
    odds = sp.log(Q[J] * sp.exp(U[J] * TIME)) - sp.log(Q[K] * sp.exp(U[K] * TIME))
    d.equal(
        "Inside the face u_j = u_k, and the log-odds of two outcomes stay what they were.",
        sp.diff(sp.expand_log(odds), TIME).subs(U[J], U[K]),
        conserved,
        shown=sp.Subs(sp.Derivative(odds, TIME), U[J], U[K]),
        scope=ANY_N,
    )
    g, q_j, q_k = sp.symbols("g q_j q_k", positive=True)
    d.limit(
        "The odds of an outcome outside against one inside vanish: the flow ends at q conditioned on the face.",
        q_j / q_k * sp.exp(-g * TIME),
        TIME,
        sp.oo,
        0,
        scope=ANY_N,
    )
    _mode_decides(d, decides)
    _face_numbers(d)


def _mode_decides(d: Derivation, decides: int) -> None:
    """Check the accuracy of sharpening and of task reward on every labelling of four outcomes."""
    p = [sp.Rational(4, 10), sp.Rational(3, 10), sp.Rational(2, 10), sp.Rational(1, 10)]
    verdicts = []
    sharpened = [sp.limit(1 / sum((y / x) ** TIME for y in p), TIME, sp.oo) for x in p]  # u = log p
    for labels in itertools.product([0, 1], repeat=4):
        verdicts.append(sum(r * x for r, x in zip(labels, sharpened, strict=True)) == labels[decides])
        if any(labels):  # the task reward: u = r
            weights = [x * sp.exp(r * TIME) for x, r in zip(p, labels, strict=True)]
            correct = sum(x for x, r in zip(weights, labels, strict=True) if r)
            verdicts.append(sp.limit(sp.cancel(correct / sum(weights)), TIME, sp.oo) == 1)
    claim = sp.Eq(sp.Limit(sp.Symbol("E[r]"), TIME, sp.oo), sp.Symbol("r_mode"), evaluate=False)
    d.check(
        "With u = log p the face is the mode, so accuracy ends at 1 or 0 with the mode's label; with u = r it ends at "
        "1 whenever some outcome is correct.",
        claim,
        verdicts,
        "every labelling of p = (4, 3, 2, 1)/10",
        again=True,
    )


def _face_numbers(d: Derivation) -> None:
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
    claim = sp.Eq(sp.Limit(PI[K], TIME, sp.oo), Q[K] / sp.Symbol("q_face"), evaluate=False)
    d.confirm("An ODE solver ends at q conditioned on the face.", claim, errors, 1e-8, "10 random problems")


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
    d.limit(
        "A policy is determined by its odds. As beta_inv grows, an outcome whose reward is lower by g loses against "
        "one of largest reward.",
        odds * sp.exp(-b * g),
        b,
        sp.oo,
        concentrated,
        scope=ANY_N,
    )
    d.equal(
        "Two outcomes of equal reward keep the odds of p^alpha whatever beta_inv is: the limit is p^alpha on "
        "arg max r.",
        odds * sp.exp(b * (R[J] - R[K])).subs(R[J], R[K]),
        (p_j / p_k) ** kept,
        shown=sp.Subs(odds * sp.exp(b * (R[J] - R[K])), R[J], R[K]),
        scope="r_j = r_k, " + ANY_N,
    )
    d.limit(
        "As alpha grows, an outcome with p_j = p_k exp(-g), g > 0, loses against k, and one with p_j = p_k does not: "
        "the limit is uniform on arg max p.",
        sp.exp(-g * ALPHA),
        ALPHA,
        sp.oo,
        concentrated,
        scope=ANY_N,
    )
    tilted = sp.Function("pi")(ALPHA, b)
    body = P[K] ** ALPHA * sp.exp(b * R[K])
    d.equal(
        "At alpha = 1 and beta_inv = 0, where the weights are continuous, p is its own optimum.",
        body.subs({ALPHA: 1, b: 0}) / total(P[I]),
        P[K],
        given={total(P[I]): sp.Integer(1)},
        shown=tilted.subs({ALPHA: 1, b: 0}),
        scope=ANY_N,
    )
    _three_outcomes(d, b, kept)
    _limit_numbers(d, sp.lambdify(ALPHA, kept))


def _three_outcomes(d: Derivation, b: sp.Symbol, exponent: Any) -> None:
    """Take the limits again, of the whole policy at n = 3 with every pattern of ties."""
    p = sp.symbols("p_1:4", positive=True)
    verdicts = []
    for labels in itertools.product([0, 1], repeat=3):
        if not any(labels):
            continue
        kept = sum(x**exponent for x, r in zip(p, labels, strict=True) if r)
        for k in range(3):
            odds = [(x / p[k]) ** ALPHA * sp.exp(b * (r - labels[k])) for x, r in zip(p, labels, strict=True)]
            expected = p[k] ** exponent / kept if labels[k] else sp.Integer(0)
            verdicts.append(sp.simplify(sp.limit(1 / sum(odds), b, sp.oo) - expected) == 0)
        drop = [sp.exp(-ALPHA * (1 - r) * (i + 1)) for i, r in enumerate(labels)]
        for k in range(3):
            expected = sp.Rational(labels[k], sum(labels))
            verdicts.append(sp.limit(drop[k] / sum(drop), ALPHA, sp.oo) == expected)
    shown = sp.Eq(
        sp.Limit(p[0] ** ALPHA * sp.exp(b) / (p[0] ** ALPHA * sp.exp(b) + p[1] ** ALPHA * sp.exp(b) + p[2] ** ALPHA),
                 b, sp.oo),
        p[0] ** ALPHA / (p[0] ** ALPHA + p[1] ** ALPHA),
        evaluate=False,
    )  # fmt: skip
    text = "The same limits of whole policies on three outcomes, with every pattern of ties."
    d.check(text, shown, verdicts, "n = 3", again=True)


def _limit_numbers(d: Derivation, exponent: Callable[..., float]) -> None:
    """Compare with mpmath at weights of 10^4, in 60 digits."""
    import mpmath

    errors = []
    with mpmath.workdps(60):
        for _ in range(20):
            n = int(d.rng.integers(2, 9))
            p, r = d.rng.dirichlet(np.ones(n)), d.rng.integers(0, 2, n)
            r[0], alpha = 1, float(d.rng.uniform(0.3, 3.0))
            weights = [mpmath.mpf(x) ** alpha * mpmath.exp(10**4 * int(y)) for x, y in zip(p, r, strict=True)]
            powers_kept = p ** exponent(alpha)
            kept = (powers_kept * r) / (powers_kept @ r)
            errors += [float(w / mpmath.fsum(weights)) - x for w, x in zip(weights, kept, strict=True)]
            tied = [mpmath.mpf(int(x)) for x in d.rng.integers(1, 4, n)]
            powers = [x**10000 for x in tied]
            winners = [x == max(tied) for x in tied]
            errors += [float(x / mpmath.fsum(powers)) - y / sum(winners) for x, y in zip(powers, winners, strict=True)]
    shown = sp.Eq(sp.Limit(sp.Symbol("pi_*"), ALPHA, sp.oo), 1 / N, evaluate=False)
    d.confirm("Weights of 10^4 in 60 digits agree with the limits.", shown, errors, 1e-12, "20 random problems each")


T1 = Theorem(
    "T1",
    "Gibbs optimum",
    "With entropy (w_h > 0) the only maximum of J is pi* = exp(u / w_h) / Z, where u = w_r r + (w_p - w_h) s + "
    "w_h log p (w_r r + w_p log p without length normalisation), and J(pi*) - J(pi) = w_h KL(pi || pi*).",
    r"w_h > 0:\quad \pi^* = \frac{e^{u / w_h}}{Z}, \qquad J(\pi^*) - J(\pi) = w_h\, \mathrm{KL}(\pi \,\|\, \pi^*)",
    gibbs,
)
T2 = Theorem(
    "T2",
    "Optima without entropy are a face",
    "Without entropy every policy supported on arg max u is optimal. The natural gradient from q ends at q conditioned "
    "on that face. For a task reward the face is the correct set; for sharpening it is the mode of p, right or wrong.",
    r"w_h = 0:\quad \pi_i(t) = \frac{q_i e^{u_i t}}{\sum_j q_j e^{u_j t}} \to "
    r"\frac{q_i \mathbf{1}[i \in \arg\max u]}{\sum_{j \in \arg\max u} q_j}",
    face,
)
T3 = Theorem(
    "T3",
    "Limits of the weights",
    "For pi* proportional to p^alpha exp(beta_inv r): beta_inv to infinity gives p^alpha restricted to arg max r, "
    "alpha to infinity the uniform distribution on arg max p (beta_inv = 0), alpha to 1 and beta_inv to 0 give p.",
    r"p^\alpha e^{\beta^{-1} r} / Z \;\to\; p^\alpha |_{\arg\max r} \;(\beta^{-1} \to \infty), \quad "
    r"\mathrm{uniform}(\arg\max p) \;(\alpha \to \infty,\ \beta^{-1} = 0), \quad p \;(\alpha \to 1,\ \beta^{-1} \to 0)",
    limits,
)
