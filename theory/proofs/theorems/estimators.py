"""T14: what gradient estimators estimate, from the distribution of the samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Short, Word, by_sign, evaluate, runs
from sharpen.theory.proofs.numbers import estimators as estimators_numbers
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import AN_EXAMPLE, ANY_N, Derivation, Theorem
from sharpen.theory.proofs.sums import NORMALISED, PI, I, J, K, N, P, derivative, mean, total

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
ANY_POLICY = say("any policy of two outcomes")
REVERSE = Short("dKL(pi || p)_j", PI[J] * (RATIO.subs(I, J) - mean(RATIO)))  # the gradients, as _targets derives them
FORWARD = Short("dKL(p || pi)_j", PI[J] - P[J])
GRADIENT = Short("dJ_j", PI[J] * (R[J] - mean(R[I])))
SAME_EXAMPLE = say("the same example")


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
    means, short = _kl_terms(d, found)
    _bernoulli(d, bernoulli)
    _variance(d, scatter)
    own, whole = _baselines(d, rloo, shrink)
    _groups(d, rloo, shrink)
    divided = _standardised(d, grpo)
    averaged = _token_mean(d, tokens)
    estimators_numbers.compare_kl_terms(d, found, means["k1 reward"])
    estimators_numbers.compare_advantages(d, rloo, sp.lambdify(GROUP, shrink), own)
    d.state(
        "The mean of a KL estimator, in the reward or differentiated in the loss: {}, {}, {}, {}, {}; k2 in the reward "
        "is {} of the first of these. RLOO has the mean {} for any {}, and with the mean of the whole group as "
        "baseline it is {}. By GRPO's division by the deviation the direction is {}, and by the token mean, with "
        "unequal lengths, it is {}.",
        *means.values(), short, own, GROUP, whole, divided, averaged,
    )  # fmt: skip


def _score_mean(weight: sp.Expr) -> sp.Expr:
    """Return E[w(x) (delta_xj - pi_j)], the weight depending on the index i."""
    return total(PI[I] * weight * (DELTA(I, J) - PI[J]))


def _targets(d: Derivation) -> None:
    def gradient(divergence: sp.Expr) -> sp.Expr:
        return total(derivative(divergence, PI[K]) * PI[K] * (DELTA(J, K) - PI[J]), K)

    reverse, forward = Short("KL(pi || p)", mean(RATIO)), Short("KL(p || pi)", total(-P[I] * RATIO))
    for divergence, claimed in ((reverse, REVERSE), (forward, FORWARD)):
        d.equal(
            say("The gradient of {} in the logits of {}.", divergence, PI),
            Short(f"d/dtheta_j {divergence.name}", gradient(divergence.value)),
            claimed,
            given=BOTH,
            scope=ANY_N,
        )


def _kl_terms(d: Derivation, found: dict[str, Factors]) -> tuple[dict[str, Any], Word]:
    """Add the mean of each estimator; return their equations, and how k2 in the reward errs."""
    log_pi, log_p = sp.symbols("l_pi l_p", real=True)
    terms: dict[str, tuple[Any, Any, Any]] = {
        "k1": (log_pi - log_p, sp.Integer(1), RATIO),
        "k2": ((log_pi - log_p) ** 2 / 2, log_pi - log_p, RATIO**2 / 2),
        "k3": (sp.exp(log_p - log_pi) - 1 + log_pi - log_p, 1 - sp.exp(log_p - log_pi), K3),
    }
    in_loss = {"k1": sp.Integer(1), "k2": RATIO, "k3": 1 - P[I] / PI[I]}
    logs = {log_pi: sp.log(PI[I]), log_p: sp.log(P[I])}
    for name, (term, slope, in_reward) in terms.items():
        d.equal(
            say("In the loss " + name + " is differentiated: the score of a sample is weighed with this."),
            sp.Derivative(Short(name, term), log_pi),
            slope,
        )
        d.equal(
            say("With the log-probabilities of both policies this and the estimator itself, the weight in the reward."),
            sp.Matrix([slope.subs(logs), term.subs(logs)]),
            sp.Matrix([in_loss[name], in_reward]),
            scope=ANY_N,
        )
    means = {}
    for name, (reverse, forward) in found.items():
        term, place = name.split()
        weight = in_loss[term] if place == "loss" else terms[term][2]
        means[name] = d.equal(
            say(f"The mean of {term} in the {place}."),
            _score_mean(weight),
            reverse * REVERSE + forward * FORWARD,
            given=BOTH,
            name=f"E[{term} in {place}]",
            scope=ANY_N,
        )
    example = {PI[1]: sp.Rational(4, 5), PI[2]: sp.Rational(1, 5), P[1]: sp.S.Half, P[2]: sp.S.Half}
    both = [weight.subs(I, 1) - weight.subs(I, 2) for weight in (RATIO**2 / 2, RATIO)]  # E = pi_1 pi_2 (w_1 - w_2)
    gap = sp.simplify(sp.expand_log(sp.Rational(4, 25) * (both[1] - both[0]).subs(example)))
    short = by_sign(gap, "short", "in excess")
    d.has_sign(
        say("k2 in the reward is {} of the gradient for {} against {}, by this.", short,
            runs(sp.Symbol("pi"), [example[PI[1]], example[PI[2]]]),
            runs(sp.Symbol("p"), [example[P[1]], example[P[2]]])),
        PI[1] * PI[2] * (both[1] - both[0]),
        "positive",
        by=gap,
        where=example,
        scope=AN_EXAMPLE,
    )  # fmt: skip
    return means, short


def _bernoulli(d: Derivation, claimed: tuple[sp.Expr, sp.Expr]) -> None:
    point, half = sp.Rational(4, 5), sp.S.Half
    pairs = ((MEAN, half), (1 - MEAN, half))  # pi and p of both outcomes
    reverse = sum(x * sp.Derivative(sp.log(x), MEAN) * sp.log(x / p) for x, p in pairs)
    forward = sum(x * sp.Derivative(sp.log(x), MEAN) * (1 - p / x) for x, p in pairs)
    facts = []
    for words, value, truth in (("k1 in the reward", reverse, claimed[0]), ("k3 in the loss", forward, claimed[1])):
        taken = sp.Subs(value, MEAN, point)
        facts.append(d.equal(
            say(f"A Bernoulli policy, differentiated in its mean: {words}."),
            taken,
            truth,
            by=sp.expand_log(evaluate(taken), force=True),
            scope=say("the example of Tang and Munos 2025"),
        ))  # fmt: skip
    published = (1.38629, 1.875)
    for fact, value in zip(facts, published, strict=True):
        d.confirm(say("That is the published number."), fact, [float(fact.rhs) - value], 5e-6,
                  say("Tang and Munos 2025, {} decimals", 5))  # fmt: skip


def _variance(d: Derivation, scatter: sp.Expr) -> None:
    square = total(total(PI[I] * W[I] ** 2 * (DELTA(I, J) - PI[J]) ** 2, I), J)
    general = mean(W[I] ** 2 * (1 - 2 * PI[I])) + mean(W[I] ** 2) * total(PI[I] ** 2)
    d.equal(
        say("Any estimator that weighs scores with {} has this mean square. Its variance (trace) is that less the "
            "mean's own length, for one sample; for the mean of {} samples it is one part in {} of that.",
            W, GROUP, GROUP),
        square,
        general,
        given=NORMALISED,
        scope=ANY_N,
    )  # fmt: skip
    alone = general.replace(lambda x: isinstance(x, sp.Indexed) and x.base == W, lambda _: sp.Integer(1))
    d.equal(
        say("k1 in the loss, of the weight one, has no mean but this variance: it is noise."),
        alone,
        scatter,
        given=NORMALISED,
        name="Var(k1 in loss)",
        scope=ANY_N,
    )


def _baselines(d: Derivation, rloo: int, shrink: sp.Expr) -> tuple[Any, Any]:
    own = _score_mean(R[I])
    other = total(total(PI[I] * PI[K] * R[K] * (DELTA(I, J) - PI[J]), K))
    groups = say("any {} from two on, any number {} of outcomes", GROUP, N)
    d.equal(say("A sample's own reward on its score has the gradient of the objective as mean."), own, GRADIENT,
            scope=ANY_N)  # fmt: skip
    d.equal(
        say("Another sample's reward, independent of it, on its score has none."),
        other,
        0,
        given=NORMALISED,
        scope=ANY_N,
    )
    unbiased = d.equal(
        say("RLOO takes off the mean of the others: each of them adds nothing."),
        own - (GROUP - 1) * other / (GROUP - 1),
        rloo * GRADIENT,
        given=NORMALISED,
        name="E[RLOO]",
        scope=groups,
    )
    whole = d.equal(
        say("The mean of the whole group holds the sample's own reward once."),
        own - own / GROUP - (GROUP - 1) * other / GROUP,
        shrink * GRADIENT,
        given=NORMALISED,
        name="E[group mean]",
        scope=groups,
    )
    return unbiased, whole


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
    sizes = runs(GROUP, (2, 3)), runs(N, (2, 3))

    def pairs(weights: Callable[..., list[Any]], factor: Any) -> Iterator[tuple[Any, Any]]:
        for size, n in itertools.product(*sizes):
            free = _policy(n)[:-1]
            pi = [*free, 1 - sum(free)]
            reward = sp.symbols(f"R_1:{n + 1}", real=True)
            average = sum(x * r for x, r in zip(pi, reward, strict=True))
            gradient = [x * (r - average) for x, r in zip(pi, reward, strict=True)]
            found = _enumerated(pi, reward, size, weights)
            multiple = sp.sympify(factor).subs(GROUP, size)
            yield from ((x, multiple * y) for x, y in zip(found, gradient, strict=True))

    scope = say("{}, {}", *sizes)
    for name, weights, factor in (("RLOO", _leave_one_out, rloo), ("group mean", _centred, shrink)):
        claim = sp.Eq(sp.Symbol(f"E[{name}]"), factor * sp.Symbol("dJ"), evaluate=False)
        words = say("Again, by adding up all groups for any policy and any rewards.")
        d.cases(words, claim, pairs(weights, factor), scope, again=True)


def _standardised(d: Derivation, claimed: Sequence[sp.Expr]) -> Word:
    def weights(group: Sequence[int], rewards: Sequence[Any]) -> list[Any]:
        centred = _centred(group, rewards)
        spread = sp.sqrt(sum((len(rewards) * c) ** 2 for c in centred) / sp.Integer(len(rewards) - 1))
        return [c / spread if spread else sp.Integer(0) for c in centred]

    third = [sp.Rational(1, 3)] * 3
    reward = [sp.Integer(0), sp.Integer(1), sp.Integer(4)]
    found = _enumerated(third, reward, 2, weights)
    d.equal(
        say("GRPO divides by the group's standard deviation (that of a sample): its mean for uniform outcomes of {}, "
            "{}.", runs(sp.Symbol("R"), reward), runs(GROUP, [2])),
        sp.Matrix(found),
        sp.Matrix(list(claimed)),
        name="E[GRPO]",
        scope=AN_EXAMPLE,
    )  # fmt: skip
    gradient = sp.Matrix([x * (r - sp.Rational(5, 3)) for x, r in zip(third, reward, strict=True)])
    turned = _not_parallel(d, sp.Matrix(list(claimed)), gradient)
    free = _policy(1)[0]
    for scale in (1, 7):
        d.equal(
            say("With two outcomes whose rewards are {} apart the mean is this, whatever that is: the size is lost, "
                "too.", scale),
            sp.Matrix(_enumerated([free, 1 - free], [sp.Integer(scale), sp.Integer(0)], 2, weights)),
            sp.Matrix([free * (1 - free), -free * (1 - free)]) / sp.sqrt(2),
            name="E[GRPO]",
            scope=ANY_POLICY,
        )  # fmt: skip
    return turned


def _not_parallel(d: Derivation, found: sp.Matrix, gradient: sp.Matrix) -> Word:
    """Add the squared length of the cross product with the gradient; return whether the direction is kept."""
    cross = found.cross(gradient)
    square = sp.simplify(cross.dot(cross))
    turned = by_sign(square, "turned", "kept")
    text = say("The direction of the gradient is {}, by the length of their cross product.", turned)
    d.has_sign(text, Short("|E x dJ|", square), "positive", scope=SAME_EXAMPLE)
    return turned


def _token_mean(d: Derivation, claimed: Sequence[sp.Expr]) -> Word:
    length = sp.Symbol("L", positive=True)
    total_gradient = total(total(PI[I] * PI[K] * (R[I] - R[K]) * (DELTA(I, J) - DELTA(K, J)) / (2 * length), K))
    d.equal(
        say(
            "The token mean divides by the tokens of the batch. With one length {} that is the gradient, up to it "
            "(RLOO in pairs).",
            length,
        ),
        total_gradient,
        GRADIENT / length,
        given=NORMALISED,
        name="E[token mean]",
        scope=ANY_N,
    )
    lengths = (1, 2, 4)

    def weights(group: Sequence[int], rewards: Sequence[Any]) -> list[Any]:
        tokens = sp.Integer(sum(lengths[x] for x in group))
        return [len(group) * a / tokens for a in _leave_one_out(group, rewards)]

    third, reward = [sp.Rational(1, 3)] * 3, [sp.Integer(1), sp.Integer(0), sp.Integer(0)]
    found = _enumerated(third, reward, 2, weights)
    d.equal(
        say(
            "Its mean for uniform outcomes of {}, {}, {}.",
            runs(sp.Symbol("R"), reward),
            runs(length, lengths),
            runs(GROUP, [2]),
        ),
        sp.Matrix(found),
        sp.Matrix(list(claimed)),
        name="E[token mean]",
        scope=AN_EXAMPLE,
    )
    gradient = sp.Matrix([sp.Rational(2, 9), sp.Rational(-1, 9), sp.Rational(-1, 9)])
    return _not_parallel(d, sp.Matrix(list(claimed)), gradient)


T14 = Theorem("T14", "Gradient estimators", estimators)
