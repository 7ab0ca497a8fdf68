"""T14: what gradient estimators estimate, from the distribution of the samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy as sp

from sharpen.theory.proofs import estimators_numbers
from sharpen.theory.proofs.result import ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, P, derivative, mean, total

R: Any = sp.IndexedBase("R", real=True)  # pseudo-rewards
W: Any = sp.IndexedBase("w", real=True)  # the weight of a sample's score
GROUP = sp.Symbol("G", integer=True, positive=True)
MEAN = sp.Symbol("m", positive=True)  # of a Bernoulli policy
DELTA = sp.KroneckerDelta
BOTH = {**NORMALISED, total(P[I]): sp.Integer(1)}
RATIO: Any = sp.log(PI[I]) - sp.log(P[I])
K3 = P[I] / PI[I] - 1 + RATIO
SCATTER = 1 - total(PI[I] ** 2)
TOKEN_EXAMPLE = (sp.Rational(16, 135), sp.Rational(-2, 27), sp.Rational(-2, 45))
GRPO_EXAMPLE = (-sp.sqrt(2) / 9, sp.Integer(0), sp.sqrt(2) / 9)
BERNOULLI = (sp.log(4), sp.Rational(15, 8))
Factors = tuple[int, int]  # of grad KL(pi || p) and grad KL(p || pi)


def estimators(
    d: Derivation,
    *,
    k1_reward: Factors = (1, 0),
    k1_loss: Factors = (0, 0),
    k2_loss: Factors = (1, 0),
    k3_loss: Factors = (0, 1),
    k3_reward: Factors = (1, -1),
    bernoulli: tuple[sp.Expr, sp.Expr] = BERNOULLI,
    scatter: sp.Expr = SCATTER,
    rloo: int = 1,
    shrink: sp.Expr = 1 - 1 / GROUP,
    grpo: Sequence[sp.Expr] = GRPO_EXAMPLE,
    tokens: Sequence[sp.Expr] = TOKEN_EXAMPLE,
) -> None:
    """Derive the expectations and variances of the estimators.

    Args:
        d: Takes the steps.
        k1_reward: Claimed multiples of grad KL(pi || p) and grad KL(p || pi) in the expectation of k1 in the reward.
        k1_loss: The same of k1 in the loss.
        k2_loss: The same of k2 in the loss.
        k3_loss: The same of k3 in the loss.
        k3_reward: The same of k3 in the reward.
        bernoulli: Claimed derivatives of both divergences in the mean, policy 4/5 and reference 1/2.
        scatter: Claimed variance (trace, one sample) of k1 in the loss.
        rloo: Claimed multiple of grad J in the expectation of RLOO.
        shrink: Claimed multiple for the baseline that is the mean of the whole group.
        grpo: Claimed expectation of GRPO in an example.
        tokens: Claimed expectation of the token mean in an example.
    """
    _targets(d)
    found = {"k1 reward": k1_reward, "k1 loss": k1_loss, "k2 loss": k2_loss, "k3 loss": k3_loss, "k3 reward": k3_reward}
    _kl_terms(d, found)
    _bernoulli(d, bernoulli)
    _variance(d, scatter)
    _baselines(d, rloo, shrink)
    _groups(d, rloo, shrink)
    _standardised(d, grpo)
    _token_mean(d, tokens)
    estimators_numbers.compare_kl_terms(d, found)
    estimators_numbers.compare_advantages(d, rloo, sp.lambdify(GROUP, shrink))


def _score_mean(weight: sp.Expr) -> sp.Expr:
    """Return E[w(x) (delta_xj - pi_j)], the weight depending on the index i."""
    return total(PI[I] * weight * (DELTA(I, J) - PI[J]))


def _reverse() -> sp.Expr:
    """Return grad_j KL(pi || p) as :func:`_targets` derives it."""
    return PI[J] * (RATIO.subs(I, J) - mean(RATIO))


def _targets(d: Derivation) -> None:
    def gradient(divergence: sp.Expr) -> sp.Expr:
        return total(derivative(divergence, PI[K]) * PI[K] * (DELTA(J, K) - PI[J]), K)

    reverse, forward = mean(RATIO), total(-P[I] * RATIO)
    d.equal(
        "The gradient of KL(pi || p) in the logits of pi.",
        gradient(reverse),
        _reverse(),
        given=BOTH,
        shown=sp.Derivative(reverse, sp.Symbol("theta_j")),
        scope=ANY_N,
    )
    d.equal(
        "The gradient of KL(p || pi).",
        gradient(forward),
        PI[J] - P[J],
        given=BOTH,
        shown=sp.Derivative(forward, sp.Symbol("theta_j")),
        scope=ANY_N,
    )


def _kl_terms(d: Derivation, found: dict[str, Factors]) -> None:
    log_pi, log_p = sp.symbols("l_pi l_p", real=True)
    terms: dict[str, tuple[Any, Any, Any]] = {
        "k1": (log_pi - log_p, sp.Integer(1), RATIO),
        "k2": ((log_pi - log_p) ** 2 / 2, log_pi - log_p, RATIO**2 / 2),
        "k3": (sp.exp(log_p - log_pi) - 1 + log_pi - log_p, 1 - sp.exp(log_p - log_pi), K3),
    }
    for name, (term, slope, _) in terms.items():
        d.equal(
            f"In the loss {name} is differentiated: the score of a sample is weighed with this.",
            sp.diff(term, log_pi),
            slope,
            shown=sp.Derivative(term, log_pi),
        )
    in_loss = {"k1": sp.Integer(1), "k2": RATIO, "k3": 1 - P[I] / PI[I]}
    for name, (reverse, forward) in found.items():
        term, place = name.split()
        weight = in_loss[term] if place == "loss" else terms[term][2]
        words = " and ".join(
            f"{factor} grad {what}" for factor, what in ((reverse, "KL(pi||p)"), (forward, "KL(p||pi)"))
        )
        d.equal(
            f"{term} in the {place}: the expectation is {words}.",
            _score_mean(weight),
            reverse * _reverse() + forward * (PI[J] - P[J]),
            given=BOTH,
            scope=ANY_N,
        )
    example = {PI[1]: sp.Rational(4, 5), PI[2]: sp.Rational(1, 5), P[1]: sp.S.Half, P[2]: sp.S.Half}
    both = [weight.subs(I, 1) - weight.subs(I, 2) for weight in (RATIO**2 / 2, RATIO)]  # E = pi_1 pi_2 (w_1 - w_2)
    gap = sp.Rational(4, 25) * (both[1] - both[0]).subs(example)
    d.has_sign(
        "k2 in the reward is biased: for pi = (.8, .2) and p = (.5, .5) it falls short of the gradient.",
        sp.simplify(sp.expand_log(gap)),
        "positive",
        scope="an example, which is all that the claim needs",
    )


def _bernoulli(d: Derivation, claimed: tuple[sp.Expr, sp.Expr]) -> None:
    point, half = sp.Rational(4, 5), sp.S.Half
    pairs = ((MEAN, half), (1 - MEAN, half))  # pi and p of both outcomes
    reverse = sum(x * sp.diff(sp.log(x), MEAN) * sp.log(x / p) for x, p in pairs)
    forward = sum(x * sp.diff(sp.log(x), MEAN) * (1 - p / x) for x, p in pairs)
    for words, value, truth in (("k1 in the reward", reverse, claimed[0]), ("k3 in the loss", forward, claimed[1])):
        d.equal(
            f"A Bernoulli policy of mean 4/5 against 1/2, differentiated in the mean: {words}.",
            sp.expand_log(sp.sympify(value).subs(MEAN, point), force=True),
            sp.expand_log(truth, force=True),
            shown=sp.Subs(value, MEAN, point),
            scope="the example of Tang & Munos 2025",
        )
    published = (1.38629, 1.875)
    gaps = [float(x) - y for x, y in zip(claimed, published, strict=True)]
    d.confirm("These are the published numbers.", sp.Tuple(*claimed), gaps, 5e-6, "Tang & Munos 2025, 5 decimals")


def _variance(d: Derivation, scatter: sp.Expr) -> None:
    square = total(total(PI[I] * W[I] ** 2 * (DELTA(I, J) - PI[J]) ** 2, I), J)
    general = mean(W[I] ** 2 * (1 - 2 * PI[I])) + mean(W[I] ** 2) * total(PI[I] ** 2)
    d.equal(
        "Any estimator w(x) (e_x - pi) has this mean square. Its variance (trace) is that less |E|^2, over G for the "
        "mean of G samples.",
        square,
        general,
        given=NORMALISED,
        scope=ANY_N,
    )
    d.equal(
        "k1 in the loss, w = 1, has no mean but this variance: it is noise.",
        general.replace(lambda x: isinstance(x, sp.Indexed) and x.base == W, lambda _: sp.Integer(1)),
        scatter,
        given=NORMALISED,
        scope=ANY_N,
    )


def _baselines(d: Derivation, rloo: int, shrink: sp.Expr) -> None:
    gradient = PI[J] * (R[J] - mean(R[I]))
    own = _score_mean(R[I])
    other = total(total(PI[I] * PI[K] * R[K] * (DELTA(I, J) - PI[J]), K))
    d.equal("A sample's own reward times its score has the gradient of J as mean.", own, gradient, scope=ANY_N)
    d.equal(
        "Another sample's reward, independent of it, times its score has mean zero.",
        other,
        0,
        given=NORMALISED,
        scope=ANY_N,
    )
    d.equal(
        "RLOO takes off the mean of the G - 1 others: each of them adds nothing, so it is unbiased for any G.",
        own - (GROUP - 1) * other / (GROUP - 1),
        rloo * gradient,
        given=NORMALISED,
        scope=f"any G >= 2, {ANY_N}",
    )
    d.equal(
        "The mean of the whole group holds the sample's own reward once in G: the gradient shrinks.",
        own - own / GROUP - (GROUP - 1) * other / GROUP,
        shrink * gradient,
        given=NORMALISED,
        scope=f"any G, {ANY_N}",
    )


def _policy(n: int) -> list[Any]:
    return list(sp.symbols(f"pi_1:{n + 1}", positive=True))


def _enumerated(pi: Sequence[Any], reward: Sequence[Any], size: int, weights: Callable[..., list[Any]]) -> list[Any]:
    """Return E[sum_i a_i (e_{x_i} - pi)] over all n^G groups, ``weights`` giving the a_i of a group's outcomes."""
    mean_gradient: list[Any] = [sp.Integer(0)] * len(pi)
    for group in itertools.product(range(len(pi)), repeat=size):
        chance = sp.prod([pi[x] for x in group])
        factors = weights(group, [reward[x] for x in group])
        for j in range(len(pi)):
            drawn = sum(a * (int(x == j) - pi[j]) for a, x in zip(factors, group, strict=True))
            mean_gradient[j] += chance * drawn
    return mean_gradient


def _centred(group: Sequence[int], rewards: Sequence[Any]) -> list[Any]:
    size = len(rewards)
    return [(r - sum(rewards) / sp.Integer(size)) / size for r in rewards]


def _leave_one_out(group: Sequence[int], rewards: Sequence[Any]) -> list[Any]:
    size = len(rewards)
    return [(r - (sum(rewards) - r) / sp.Integer(size - 1)) / size for r in rewards]


def _groups(d: Derivation, rloo: int, shrink: sp.Expr) -> None:
    def pairs() -> Iterator[tuple[Any, Any]]:
        for n, size in itertools.product((2, 3), (2, 3)):
            free = _policy(n)[:-1]
            pi = [*free, 1 - sum(free)]
            reward = sp.symbols(f"R_1:{n + 1}", real=True)
            average = sum(x * r for x, r in zip(pi, reward, strict=True))
            gradient = [x * (r - average) for x, r in zip(pi, reward, strict=True)]
            for weights, factor in ((_leave_one_out, rloo), (_centred, shrink.subs(GROUP, size))):
                found = _enumerated(pi, reward, size, weights)
                yield from ((x, factor * y) for x, y in zip(found, gradient, strict=True))

    claim = sp.Eq(sp.Symbol("E[g]"), rloo * sp.Symbol("dJ/dtheta"), evaluate=False)
    words = "Both again, by adding up all n^G groups for any policy and any rewards."
    d.cases(words, claim, pairs(), "G = 2, 3 and n = 2, 3", again=True)


def _standardised(d: Derivation, claimed: Sequence[sp.Expr]) -> None:
    def weights(group: Sequence[int], rewards: Sequence[Any]) -> list[Any]:
        centred = _centred(group, rewards)
        spread = sp.sqrt(sum((len(rewards) * c) ** 2 for c in centred) / sp.Integer(len(rewards) - 1))
        return [c / spread if spread else sp.Integer(0) for c in centred]

    third = [sp.Rational(1, 3)] * 3
    reward = [sp.Integer(0), sp.Integer(1), sp.Integer(4)]
    found = _enumerated(third, reward, 2, weights)
    d.equal(
        "GRPO divides by the group's standard deviation (divisor G - 1): its mean for rewards (0, 1, 4), uniform pi "
        "and G = 2.",
        sp.Matrix(found),
        sp.Matrix(list(claimed)),
        shown=sp.Symbol("E[g]"),
        scope="an example, which is all that the claim needs",
    )
    gradient = sp.Matrix([x * (r - sp.Rational(5, 3)) for x, r in zip(third, reward, strict=True)])
    _not_parallel(d, "It is no multiple of grad J: the division biases the direction.", sp.Matrix(found), gradient)
    free = _policy(1)[0]
    for scale in (1, 7):
        d.equal(
            f"With two outcomes and G = 2 a gap of {scale} in reward gives the same mean: the size is lost, too.",
            sp.Matrix(_enumerated([free, 1 - free], [sp.Integer(scale), sp.Integer(0)], 2, weights)),
            sp.Matrix([free * (1 - free), -free * (1 - free)]) / sp.sqrt(2),
            shown=sp.Symbol("E[g]"),
            scope="any policy, n = 2",
        )


def _not_parallel(d: Derivation, text: str, found: sp.Matrix, gradient: sp.Matrix) -> None:
    cross = found.cross(gradient)
    d.has_sign(
        f"{text} (The squared length of their cross product.)",
        sp.simplify(cross.dot(cross)),
        "positive",
        scope="the same example",
    )


def _token_mean(d: Derivation, claimed: Sequence[sp.Expr]) -> None:
    length = sp.Symbol("L", positive=True)
    total_gradient = total(total(PI[I] * PI[K] * (R[I] - R[K]) * (DELTA(I, J) - DELTA(K, J)) / (2 * length), K))
    d.equal(
        "The token mean divides by the tokens of the batch. With equal lengths L that is grad J over L (RLOO, G = 2).",
        total_gradient,
        PI[J] * (R[J] - mean(R[I])) / length,
        given=NORMALISED,
        scope=ANY_N,
    )
    lengths = (1, 2, 4)

    def weights(group: Sequence[int], rewards: Sequence[Any]) -> list[Any]:
        tokens = sp.Integer(sum(lengths[x] for x in group))
        return [len(group) * a / tokens for a in _leave_one_out(group, rewards)]

    third, reward = [sp.Rational(1, 3)] * 3, [sp.Integer(1), sp.Integer(0), sp.Integer(0)]
    found = _enumerated(third, reward, 2, weights)
    d.equal(
        "With lengths (1, 2, 4), rewards (1, 0, 0), uniform pi and G = 2 its mean is this.",
        sp.Matrix(found),
        sp.Matrix(list(claimed)),
        shown=sp.Symbol("E[g]"),
        scope="an example, which is all that the claim needs",
    )
    gradient = sp.Matrix([sp.Rational(2, 9), sp.Rational(-1, 9), sp.Rational(-1, 9)])
    _not_parallel(d, "It is no multiple of grad J: long sequences count for less.", sp.Matrix(found), gradient)


T14 = Theorem(
    "T14",
    "Gradient estimators",
    "k1 in the reward and k2 in the loss have the mean grad KL(pi||p), k1 in the loss 0, k3 in the loss grad "
    "KL(p||pi), k3 in the reward the difference of the two, k2 in the reward neither. RLOO is unbiased for any G; the"
    " mean of the whole group as baseline gives 1 - 1/G of the gradient. GRPO's division by the deviation and, with "
    "unequal lengths, the token mean turn the gradient.",
    r"E[\mathrm{k1_{reward}}] = E[\mathrm{k2_{loss}}] = \nabla \mathrm{KL}(\pi\|p), \quad E[\mathrm{k1_{loss}}] = 0, "
    r"\quad E[\mathrm{k3_{loss}}] = \nabla \mathrm{KL}(p\|\pi), \quad E[\mathrm{RLOO}] = \nabla J",
    estimators,
)
