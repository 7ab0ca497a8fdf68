"""T12: the gradient flows of the objective, from its gradient and Fisher's metric to the class of each fixed point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from sharpen.theory.proofs import dynamics_numbers
from sharpen.theory.proofs.dynamics_numbers import W_H
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, U, Z, derivative, mean, total

LEVEL = sp.Symbol("lambda", real=True)
EPSILON, ETA = sp.symbols("epsilon eta", positive=True)
DEPTH = sp.Symbol("x", positive=True)  # a probability exp(-x) that falls to 0 as x grows
A: Any = sp.IndexedBase("A", real=True)  # the pseudo-reward
THETA: Any = sp.IndexedBase("theta", real=True)  # logits
V: Any = sp.IndexedBase("v", real=True)  # a direction
C: Any = sp.IndexedBase("c", real=True)  # A = a - c log pi; c = w_h, or (w_h - w_p) / |x|^w if p is the policy
Q: Any = sp.IndexedBase("q", positive=True)
DELTA = sp.KroneckerDelta
SQUARES = mean(mean((A[I] - A[J]) ** 2, J)) / 2


def _softmax(k: Any, j: Any) -> sp.Expr:
    """Return d pi_k / d theta_j."""
    return PI[k] * (DELTA(j, k) - PI[j])


def _push(values: Callable[[Any], sp.Expr], k: Any) -> sp.Expr:
    """Return pi_k (x_k - E_pi x), what the matrix diag(pi) - pi pi^T makes of a vector x."""
    return PI[k] * (values(k) - mean(values(I)))


def gradient_flows(
    d: Derivation,
    *,
    speed: sp.Expr = PI[K],
    order: int = 2,
    euler: int = 1,
    inside: sp.Expr = -W_H,
    across: sp.Expr = sp.oo,
    climbs: sp.Expr = SQUARES,
) -> None:
    """Derive both flows, their fixed points and their stability.

    Args:
        d: Takes the steps.
        speed: Claimed factor of the gradient in the softmax velocity d pi_k/dt.
        order: Claimed power of a lost outcome's probability in its softmax velocity near a vertex.
        euler: Claimed ratio of the first-order change of mirror descent to that of the replicator.
        inside: Claimed eigenvalue within a support.
        across: Claimed limit of the growth rate of a lost outcome with entropy.
        climbs: Claimed dJ/dt along the natural gradient.
    """
    _geometry(d)
    _velocities(d, speed)
    _plateau(d, order)
    _mirror(d, euler)
    _climbs(d, climbs)
    _fixed_points(d)
    _linearised(d, inside, across)
    replicator = sp.Eq(sp.Derivative(sp.Symbol("pi_k"), sp.Symbol("t")), _push(lambda k: A[k], K), evaluate=False)
    dynamics_numbers.compare_fields(d, replicator)
    dynamics_numbers.compare_steps(d)
    dynamics_numbers.compare_flows(d, inside)


def _geometry(d: Derivation) -> None:
    weight = sp.exp(THETA[K]) / total(sp.exp(THETA[I]))
    d.equal(
        "The Jacobian of pi = softmax(theta).",
        derivative(weight, THETA[J]),
        weight * (DELTA(J, K) - weight.subs(K, J)),
        shown=sp.Derivative(weight, THETA[J]),
        scope=ANY_N,
    )
    slope = derivative(mean(U[I] - W_H * sp.log(PI[I])), PI[K])
    d.equal(
        "The gradient of J = E[u - w_h log pi] in the logits is g_j = pi_j (A_j - E A), with A = u - w_h log pi: the "
        "constant w_h of the derivative drops out.",
        total(slope * _softmax(K, J), K),
        _push(lambda k: U[k] - W_H * sp.log(PI[k]), J),
        given=NORMALISED,
        shown=sp.Derivative(sp.Symbol("J"), THETA[J]),
        scope=ANY_N,
    )
    d.equal(
        "The Fisher matrix, the mean of the product of two scores delta_ij - pi_j.",
        mean((DELTA(I, J) - PI[J]) * (DELTA(I, K) - PI[K])),
        PI[J] * DELTA(J, K) - PI[J] * PI[K],
        given=NORMALISED,
        scope=ANY_N,
    )
    d.equal(
        "It takes A, and A plus any constant b, to the gradient: the natural gradient moves the logits by A.",
        total((PI[J] * DELTA(J, K) - PI[J] * PI[K]) * (A[K] + sp.Symbol("b")), K),
        _push(lambda k: A[k], J),
        given=NORMALISED,
        scope=ANY_N,
    )
    gain = total(A[I] * V[I] - V[I] ** 2 / (2 * PI[I])) - LEVEL * total(V[I])
    d.equal(
        "The same on the simplex: the direction v of sum zero that gains most, sum A v, for its Fisher length "
        "sum v^2 / pi, is v = pi (A - E A).",
        derivative(gain, V[K]).subs({V[K]: PI[K] * (A[K] - LEVEL)}),
        0,
        shown=sp.Subs(sp.Derivative(gain, V[K]), V[K], PI[K] * (A[K] - LEVEL)),
        scope=ANY_N,
    )
    d.equal(
        "Its entries sum to zero if lambda is E A.",
        total(PI[I] * (A[I] - mean(A[J], J))),
        0,
        given=NORMALISED,
        scope=ANY_N,
    )


def _velocities(d: Derivation, speed: sp.Expr) -> None:
    d.equal(
        "The natural gradient's velocity of the policy: the replicator equation.",
        total(_softmax(K, J) * A[J], J),
        _push(lambda k: A[k], K),
        shown=sp.Derivative(sp.Symbol("pi_k"), sp.Symbol("t")),
        scope=ANY_N,
    )
    gradient = PI[K] * (A[K] - mean(A[I]))
    d.equal(
        "The softmax gradient's: the factor pi once more, and its mean is taken off.",
        total(_softmax(K, J) * gradient.subs(K, J), J),
        speed * (gradient - mean(PI[I] * (A[I] - mean(A[J], J)))),
        given=NORMALISED,
        shown=sp.Derivative(sp.Symbol("pi_k"), sp.Symbol("t")),
        scope=ANY_N,
    )


def _plateau(d: Derivation, order: int) -> None:
    top = sp.Symbol("A_0", real=True)
    average = (1 - EPSILON) * top + EPSILON * total(Q[I] * A[I])
    gradient = EPSILON * Q[K] * (A[K] - average)
    squares = (1 - EPSILON) ** 2 * (top - average) + total((EPSILON * Q[I]) ** 2 * (A[I] - average))
    softmax = EPSILON * Q[K] * (gradient - squares)
    natural = A[K] - top
    others = total(Q[I] * A[I]) - top
    shares = {total(Q[I]): sp.Integer(1)}
    d.equal(
        "Near a vertex, 1 - epsilon on outcome 0 and epsilon q_k on the others, the replicator moves pi_k at first "
        "order.",
        sp.diff(EPSILON * Q[K] * (A[K] - average), EPSILON).subs(EPSILON, 0),
        Q[K] * natural,
        shown=sp.Subs(sp.Derivative(gradient, EPSILON), EPSILON, 0),
        scope=ANY_N,
    )
    for lower in range(1, order):
        d.equal(
            f"The softmax velocity has no term of order {lower} in epsilon.",
            sp.diff(softmax, EPSILON, lower).subs(EPSILON, 0),
            0,
            given=shares,
            shown=sp.Subs(sp.Derivative(sp.Symbol("v_k"), (EPSILON, lower)), EPSILON, 0),
            scope=ANY_N,
        )
    d.equal(
        f"Its first term is of order {order}: near a vertex the softmax gradient stands on a plateau.",
        sp.diff(softmax, EPSILON, order).subs(EPSILON, 0) / sp.factorial(order),
        Q[K] * (Q[K] * natural + others),
        given=shares,
        shown=sp.Subs(sp.Derivative(sp.Symbol("v_k"), (EPSILON, order)), EPSILON, 0) / sp.factorial(order),
        scope=ANY_N,
    )


def _mirror(d: Derivation, euler: int) -> None:
    new: Any = sp.IndexedBase("rho", positive=True)
    aim = total(new[I] * (ETA * A[I] - sp.log(new[I]) + sp.log(PI[I]))) - LEVEL * total(new[I])
    step = PI[K] * sp.exp(ETA * A[K]) / Z
    d.equal(
        "Mirror descent takes the policy rho with the largest eta E_rho[A] - KL(rho || pi). The derivative of its "
        "Lagrangian is zero at rho = pi exp(eta A) / Z.",
        sp.expand_log(derivative(aim, new[K]).subs(new[K], step)),
        0,
        given={LEVEL: sp.log(Z) - 1},
        shown=sp.Subs(sp.Derivative(aim, new[K]), new[K], step),
        scope=ANY_N,
    )
    logits = sp.exp(THETA[K] + ETA * A[K]) / total(sp.exp(THETA[I] + ETA * A[I]))
    d.equal(
        "That is Euler's step of the natural gradient in logits: softmax(theta + eta A).",
        logits,
        sp.exp(THETA[K]) * sp.exp(ETA * A[K]) / total(sp.exp(THETA[I]) * sp.exp(ETA * A[I])),
        scope=ANY_N,
    )
    change = ETA * A[K] - sp.log(total(PI[I] * sp.exp(ETA * A[I])))
    d.equal(
        "The slope in eta of log rho - log pi is the replicator's velocity of log pi.",
        sp.diff(change, ETA).subs(ETA, 0),
        euler * (A[K] - mean(A[I])),
        given=NORMALISED,
        shown=sp.Subs(sp.Derivative(change, ETA), ETA, 0),
        scope=ANY_N,
    )


def _climbs(d: Derivation, climbs: sp.Expr) -> None:
    square = mean(A[I] ** 2) - mean(A[I]) ** 2
    d.equal(
        "Along the natural gradient J rises at the rate Var(A): sum (A_k - w_h) d pi_k/dt.",
        total((A[K] - W_H) * _push(lambda k: A[k], K), K),
        square,
        given=NORMALISED,
        shown=sp.Derivative(sp.Symbol("J"), sp.Symbol("t")),
        scope=ANY_N,
    )
    d.equal(
        "A variance is half the mean squared difference of two draws.", square, climbs, given=NORMALISED, scope=ANY_N
    )
    d.has_sign("Its terms are not negative.", PI[I] * PI[J] * (A[I] - A[J]) ** 2, "nonnegative", scope=ANY_N)
    gradient = PI[K] * (A[K] - mean(A[I]))
    velocity = PI[K] * (gradient - mean(PI[I] * (A[I] - mean(A[J], J))))
    d.equal(
        "Along the softmax gradient it rises at the rate |g|^2.",
        total((A[K] - W_H) * velocity, K),
        total(gradient**2, K),
        given=NORMALISED,
        scope=ANY_N,
    )
    g: Any = sp.IndexedBase("g", real=True)
    d.has_sign("Its terms are not negative either.", g[K] ** 2, "nonnegative", scope=ANY_N)


def _fixed_points(d: Derivation) -> None:
    d.equal(
        "The replicator rests where A_k = E A on the support. With entropy the log-odds there are fixed by "
        "u_j - w_h log pi_j = u_k - w_h log pi_k: one point for each support S, exp(u / w_h) / Z_S.",
        (U[K] - W_H * sp.log(PI[K])).subs(PI[K], sp.exp(U[K] / W_H) / Z),
        W_H * sp.log(Z),
        shown=sp.Subs(U[K] - W_H * sp.log(PI[K]), PI[K], sp.exp(U[K] / W_H) / Z),
        scope="any number n of outcomes in the support",
    )
    d.equal(
        "The softmax gradient rests where g_k is the same on the support. As the g_k sum to zero, they are zero there: "
        "both flows have the same fixed points.",
        total(PI[K] * (A[K] - mean(A[I])), K),
        0,
        given=NORMALISED,
        scope=ANY_N,
    )


def _linearised(d: Derivation, inside: sp.Expr, across: sp.Expr) -> None:
    advantage = U[I] - C[I] * sp.log(PI[I])
    field = PI[K] * (U[K] - C[K] * sp.log(PI[K]) - mean(advantage))

    def rest(x: sp.Basic) -> sp.Expr:  # A = lambda on the support
        where = next(iter(x.atoms(sp.Indexed))).indices[0]
        return (U[where] - LEVEL) / C[where]

    def linear(v: sp.Expr) -> sp.Expr:
        return total(v * derivative(field, PI[J]).replace(lambda x: isinstance(x, sp.log), rest), J)

    balanced = {**NORMALISED, total(V[I]): sp.Integer(0)}
    general = -C[K] * V[K] + PI[K] * total(C[I] * V[I])
    d.equal(
        "Linearised where A = u - c log pi is constant, with a slope c_k of each outcome, along v of sum zero.",
        linear(V[J]),
        general,
        given=balanced,
        shown=sp.Symbol("Df v_k"),
        scope=ANY_N,
    )
    equal = general.replace(lambda x: isinstance(x, sp.Indexed) and x.base == C, lambda _: W_H)
    d.equal(
        "Equal slopes, w_h with a frozen reference: every such direction has this eigenvalue, |S| - 1 times. If the "
        "reference is the policy it is w_p - w_h.",
        equal,
        inside * V[K],
        given=balanced,
        scope="any number n of outcomes in the support",
    )
    d.limit(
        "A lost outcome of probability exp(-x) grows at the rate u_j + w_h x - E A: with entropy it always returns, "
        "and only the point with full support is stable.",
        sp.Symbol("u_j", real=True) + W_H * DEPTH - LEVEL,
        DEPTH,
        sp.oo,
        across,
    )
    d.equal(
        "Without entropy the rate is finite, and the point is stable in this direction if u_j is below the u of S.",
        _push(lambda k: U[k], K) / PI[K],
        U[K] - LEVEL,
        given={mean(U[I]): LEVEL},
        scope="w_h = 0, any number n of outcomes",
    )
    d.equal(
        "The softmax velocity is (diag(pi) - pi pi^T) g, and g = 0 at the point, so linearised it is -w_h (diag(pi) - "
        "pi pi^T) on v, a symmetric matrix. Its form is -w_h Var(v) < 0 (v is not constant): the same signs.",
        total(V[K] * total((PI[J] * DELTA(J, K) - PI[J] * PI[K]) * V[J], J), K),
        mean(V[I] ** 2) - mean(V[I]) ** 2,
        shown=sp.Function("Var")(sp.Symbol("v")),
        scope="any number n of outcomes in the support",
    )


T12 = Theorem(
    "T12",
    "Gradient flows",
    "In logits the natural gradient is A = u - w_h log pi up to a constant, so the policy follows the replicator "
    "equation d pi_i/dt = pi_i (A_i - E A); mirror descent is its Euler step. The softmax gradient puts a second "
    "factor pi_i in front: near a vertex a lost outcome returns at the speed of its probability squared. J falls "
    "along neither. Both rest where A is constant on a support; within it the replicator's eigenvalue is -w_h, |S| - "
    "1 times, and towards lost outcomes it is +infinity with entropy and u_j - u_S without.",
    r"\dot\pi_i = \pi_i (A_i - E_\pi A) \text{ (natural)}, \qquad "
    r"\dot\pi_i = \pi_i \big(g_i - \textstyle\sum_j \pi_j g_j\big),\ g_i = \pi_i (A_i - E_\pi A) \text{ (softmax)}, "
    r"\qquad \dot J = \mathrm{Var}_\pi(A) \text{ or } |g|^2 \ge 0",
    gradient_flows,
)
