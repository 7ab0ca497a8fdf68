"""T12: the gradient flows of the objective, from its gradient and Fisher's metric to the class of each fixed point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, by_value
from sharpen.theory.proofs.numbers import dynamics as dynamics_numbers
from sharpen.theory.proofs.numbers.dynamics import W_H
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, N, U, Z, derivative, mean, total

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
SUPPORT = say("any number {} of outcomes in the support", N)


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
    replicator, softmax = _velocities(d, speed)
    plateau = _plateau(d, order)
    mirror = _mirror(d, euler)
    rise, way = _climbs(d, climbs)
    _fixed_points(d)
    eigenvalue, lost, without = _linearised(d, inside, across)
    dynamics_numbers.compare_fields(d, replicator)
    dynamics_numbers.compare_steps(d)
    dynamics_numbers.compare_flows(d, inside, eigenvalue, rise)
    d.state(
        "In logits the natural gradient is {} up to a constant, so the policy follows the replicator equation, {}; "
        "mirror descent is its Euler step, {}. The softmax gradient {} puts a second factor {} in front, {}: near a "
        "vertex a lost outcome returns only at order {} of its probability. The objective goes {} along both, along "
        "the first by {}. Both rest where {} is constant on a support; within it the replicator has the eigenvalue in "
        "{}, once less than it has outcomes, and the rate of a lost outcome {}, {}; without entropy it is {}.",
        A, replicator, mirror, Short("g_k", PI[K] * (A[K] - mean(A[I]))), PI[K], softmax, plateau, way, rise, A,
        eigenvalue, by_value(across, "has no bound", "dies out"), lost, without,
    )  # fmt: skip


def _geometry(d: Derivation) -> None:
    weight, other = (Short(f"pi_{x}", sp.exp(THETA[x]) / total(sp.exp(THETA[I]))) for x in (K, J))
    d.equal(
        say("The Jacobian of a policy in its logits {}.", THETA),
        sp.Derivative(weight, THETA[J]),
        weight * (DELTA(J, K) - other),
        scope=ANY_N,
    )
    value = mean(U[I] - W_H * sp.log(PI[I]))
    slope = sp.Derivative(Short("J", value), PI[K])
    d.equal(
        say("The gradient of the objective in the logits, by the chain rule: the probability and the advantage; the "
            "constant of the derivative drops out."),
        total(derivative(value, PI[K]) * _softmax(K, J), K),
        _push(lambda k: U[k] - W_H * sp.log(PI[k]), J),
        given=NORMALISED,
        name="dJ/dtheta_j",
        scope=ANY_N,
    )  # fmt: skip
    d.equal(say("The derivative that it takes."), slope, U[K] - W_H * sp.log(PI[K]) - W_H, scope=ANY_N)
    fisher = PI[J] * DELTA(J, K) - PI[J] * PI[K]
    d.equal(
        say("The Fisher matrix, the mean of the product of two scores."),
        mean((DELTA(I, J) - PI[J]) * (DELTA(I, K) - PI[K])),
        fisher,
        given=NORMALISED,
        scope=ANY_N,
    )
    constant = sp.Symbol("b")
    d.equal(
        say("It takes {}, and any constant {} on top, to the gradient: the natural gradient moves the logits by {}.",
            A, constant, A),
        total(fisher * (A[K] + constant), K),
        _push(lambda k: A[k], J),
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    gain = Short("gain", total(A[I] * V[I] - V[I] ** 2 / (2 * PI[I])) - LEVEL * total(V[I]))
    steepest = PI[K] * (A[K] - LEVEL)
    d.equal(
        say("The same on the simplex: of the directions {} of sum zero, with {} for the multiplier, this gains most for"
            " its length in Fisher's metric.", V, LEVEL),
        sp.Subs(sp.Derivative(gain, V[K]), V[K], steepest),
        0,
        scope=ANY_N,
    )  # fmt: skip
    d.equal(
        say("Its entries sum to zero if the multiplier {} is the mean.", LEVEL),
        total(PI[I] * (A[I] - mean(A[J], J))),
        0,
        given=NORMALISED,
        scope=ANY_N,
    )


def _velocities(d: Derivation, speed: sp.Expr) -> tuple[Any, Any]:
    replicator = d.equal(
        say("The natural gradient's velocity of the policy: the replicator equation."),
        total(_softmax(K, J) * A[J], J),
        _push(lambda k: A[k], K),
        name="dpi_k/dt",
        scope=ANY_N,
    )
    gradient = Short("g_k", PI[K] * (A[K] - mean(A[I])))
    average = Short("E[g]", mean(PI[I] * (A[I] - mean(A[J], J))))
    softmax = d.equal(
        say("The softmax gradient's: a factor in front once more, and the mean taken off."),
        total(_softmax(K, J) * gradient.value.subs(K, J), J),
        speed * (gradient - average),
        given=NORMALISED,
        name="dpi_k/ds",
        scope=ANY_N,
    )
    return replicator, softmax


def _plateau(d: Derivation, order: int) -> sp.Integer:
    top = sp.Symbol("A_0", real=True)
    average = (1 - EPSILON) * top + EPSILON * total(Q[I] * A[I])
    gradient = EPSILON * Q[K] * (A[K] - average)
    squares = (1 - EPSILON) ** 2 * (top - average) + total((EPSILON * Q[I]) ** 2 * (A[I] - average))
    softmax = Short("v_k", EPSILON * Q[K] * (gradient - squares))
    natural = A[K] - top
    others = total(Q[I] * A[I]) - top
    shares = {total(Q[I]): sp.Integer(1)}
    d.equal(
        say("Near a vertex, all but {} on one outcome and shares {} of that on the others, the replicator moves an "
            "outcome at first order.", EPSILON, Q),
        sp.Subs(sp.Derivative(Short("dpi_k/dt", gradient), EPSILON), EPSILON, 0),
        Q[K] * natural,
        scope=ANY_N,
    )  # fmt: skip
    for lower in range(1, order):
        d.equal(
            say("The softmax velocity {} has no term of order {}.", softmax, lower),
            sp.Subs(sp.Derivative(softmax, (EPSILON, lower)), EPSILON, 0),
            0,
            given=shares,
            scope=ANY_N,
        )
    d.equal(
        say("Its first term is of order {}: near a vertex the softmax gradient stands on a plateau.", order),
        sp.Subs(sp.Derivative(softmax, (EPSILON, order)), EPSILON, 0) / sp.factorial(order),
        Q[K] * (Q[K] * natural + others),
        given=shares,
        scope=ANY_N,
    )
    return sp.Integer(order)


def _mirror(d: Derivation, euler: int) -> Any:
    new: Any = sp.IndexedBase("rho", positive=True)
    aim = Short("aim", total(new[I] * (ETA * A[I] - sp.log(new[I]) + sp.log(PI[I]))) - LEVEL * total(new[I]))
    step = PI[K] * sp.exp(ETA * A[K]) / Z
    d.equal(
        say("Mirror descent takes the policy {} of the best mean {} at the step size {}, less the divergence from the "
            "present one. The derivative of its Lagrangian is zero here.", new, A, ETA),
        sp.Subs(sp.Derivative(aim, new[K]), new[K], step),
        0,
        by=sp.expand_log(derivative(aim.value, new[K]).subs(new[K], step)),
        given={LEVEL: sp.log(Z) - 1},
        scope=ANY_N,
    )  # fmt: skip
    logits = sp.exp(THETA[K] + ETA * A[K]) / total(sp.exp(THETA[I] + ETA * A[I]))
    d.equal(
        say("That is Euler's step of the natural gradient in logits."),
        logits,
        sp.exp(THETA[K]) * sp.exp(ETA * A[K]) / total(sp.exp(THETA[I]) * sp.exp(ETA * A[I])),
        scope=ANY_N,
    )
    change = Short("log rho_k/pi_k", ETA * A[K] - sp.log(total(PI[I] * sp.exp(ETA * A[I]))))
    return d.equal(
        say("The slope of its change of a log-probability is the replicator's velocity of that."),
        sp.Subs(sp.Derivative(change, ETA), ETA, 0),
        euler * (A[K] - mean(A[I])),
        given=NORMALISED,
        scope=ANY_N,
    )


def _climbs(d: Derivation, climbs: sp.Expr) -> tuple[Any, Any]:
    square = Short("Var(A)", mean(A[I] ** 2) - mean(A[I]) ** 2)
    rise = d.equal(
        say("Along the natural gradient the objective moves by the variance of {}.", A),
        total((A[K] - W_H) * _push(lambda k: A[k], K), K),
        square,
        given=NORMALISED,
        name="dJ/dt",
        scope=ANY_N,
    )
    d.equal(say("A variance, from the differences of two draws."), square, climbs, given=NORMALISED, scope=ANY_N)
    terms = PI[I] * PI[J] * (A[I] - A[J]) ** 2
    way = by_sign(terms, "up", "down")
    d.has_sign(say("By the sign of its terms it goes {}.", way), terms, "nonnegative", scope=ANY_N)
    gradient = PI[K] * (A[K] - mean(A[I]))
    velocity = PI[K] * (gradient - mean(PI[I] * (A[I] - mean(A[J], J))))
    d.equal(
        say("Along the softmax gradient it moves by the gradient's own length."),
        total((A[K] - W_H) * velocity, K),
        total(gradient**2, K),
        given=NORMALISED,
        name="dJ/ds",
        scope=ANY_N,
    )
    g: Any = sp.IndexedBase("g", real=True)
    words = say("That goes {}, too, by each of its terms.", by_sign(g[K] ** 2, "up", "down"))
    d.has_sign(words, g[K] ** 2, "nonnegative", scope=ANY_N)
    return rise, way


def _fixed_points(d: Derivation) -> None:
    balance = U[K] - W_H * sp.log(PI[K])
    point = sp.exp(U[K] / W_H) / Z
    d.equal(
        say("The replicator rests where {} is its mean on the support. With entropy that fixes the log-odds there: one "
            "point for each support, of the same value for every outcome.", A),
        sp.Subs(balance, PI[K], point),
        W_H * sp.log(Z),
        scope=SUPPORT,
    )  # fmt: skip
    d.equal(
        say("The softmax gradient rests where its gradient is the same on the support. As that sums to zero, it is "
            "zero there: both flows have the same fixed points."),
        total(PI[K] * (A[K] - mean(A[I])), K),
        0,
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip


def _linearised(d: Derivation, inside: sp.Expr, across: sp.Expr) -> tuple[Any, Any, Any]:
    advantage = U[I] - C[I] * sp.log(PI[I])
    field = PI[K] * (U[K] - C[K] * sp.log(PI[K]) - mean(advantage))

    def rest(x: sp.Basic) -> sp.Expr:  # A = lambda on the support
        where = next(iter(x.atoms(sp.Indexed))).indices[0]
        return (U[where] - LEVEL) / C[where]

    linear = total(V[J] * derivative(field, PI[J]).replace(lambda x: isinstance(x, sp.log), rest), J)
    balanced = {**NORMALISED, total(V[I]): sp.Integer(0)}
    general = -C[K] * V[K] + PI[K] * total(C[I] * V[I])
    d.equal(
        say("Linearised where {} is constant, with a slope {} of each outcome, along a direction {} of sum zero.",
            A, C, V),
        linear,
        general,
        given=balanced,
        name="Df v_k",
        scope=ANY_N,
    )  # fmt: skip
    equal = general.replace(lambda x: isinstance(x, sp.Indexed) and x.base == C, lambda _: W_H)
    settles = by_sign(inside, "settles", "leaves")
    eigenvalue = d.equal(
        say("Equal slopes, {} with a frozen reference: every such direction has this eigenvalue, and {}. (If the "
            "reference is the policy, the slopes are less by the weight of the likelihood.)", W_H, settles),
        Short("Df v_k", equal),
        inside * V[K],
        given=balanced,
        scope=SUPPORT,
    )  # fmt: skip
    rate = Short("rate", sp.Symbol("u_j", real=True) + W_H * DEPTH - LEVEL)
    lost = d.limit(
        say("The rate at which a lost outcome of probability {} comes back, with entropy: only the point with full "
            "support settles everywhere.", sp.exp(-DEPTH)),
        rate,
        DEPTH,
        sp.oo,
        across,
    )  # fmt: skip
    chance = sp.exp(-DEPTH)
    potential = sp.Symbol("u_j", real=True)
    d.equal(
        say("That rate from the replicator, with {} for the mean of {}.", LEVEL, A),
        Short("dpi_j/dt", chance * (potential - W_H * sp.log(chance) - LEVEL)) / chance,
        rate,
    )
    without = d.equal(
        say("Without entropy it has this value, which decides by the potential of the support, {}.", LEVEL),
        _push(lambda k: U[k], K) / PI[K],
        U[K] - LEVEL,
        given={mean(U[I]): LEVEL},
        scope=ANY_N,
    )
    form = total(V[K] * total((PI[J] * DELTA(J, K) - PI[J] * PI[K]) * V[J], J), K)
    d.equal(
        say("The softmax velocity is the Fisher matrix on a gradient that is zero at the point, so linearised it is "
            "the eigenvalue above and this form of a direction {} of logits: the same signs, as a variance has one.",
            V),
        form,
        mean(V[I] ** 2) - mean(V[I]) ** 2,
        scope=SUPPORT,
    )  # fmt: skip
    return eigenvalue, lost, without


T12 = Theorem("T12", "Gradient flows", gradient_flows)
