"""Published statements about gradient estimators, each decided from exact numbers.

A statement is decided on the problem at hand, so one that needs a difference (a policy other than the reference,
unequal lengths) is left undecided where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.estimators.exact import (
    EXACT,
    Estimate,
    Setting,
    forward_kl_gradient,
    kl_estimate,
    kl_gradient,
    policy_gradient_estimate,
    setting,
)

OURS = "sharpen"
TANG = "Tang & Munos 2025"
SHAH = "Shah 2025"
# Bernoulli policy .8, reference .5: derivatives in the mean of KL(pi||p) and KL(p||pi), to the digits published.
BERNOULLI_MEAN, BERNOULLI_REFERENCE = 0.8, 0.5
PUBLISHED_REVERSE, PUBLISHED_FORWARD = 1.38629, 1.875
PUBLISHED_DIGITS = 5e-6


@dataclass(frozen=True)
class Claim:
    """A statement about an estimator.

    Attributes:
        source: Who made it.
        claim: The statement.
        confirmed: Whether the numbers agree; None if this problem cannot tell.
        numbers: What it was decided from.
    """

    source: str
    claim: str
    confirmed: bool | None
    numbers: dict[str, float]


def claims(given: Setting) -> Rows[Claim]:
    """Return the statements on KL terms, then those on advantages and aggregation, decided for this setting.

    Raises:
        InputError: the group has one sample, or weights overflow.
    """
    return Rows((*_kl_claims(given), bernoulli_claim(), *_step_claims(given), *_advantage_claims(given)))


def _kl_claims(given: Setting) -> list[Claim]:
    reverse = kl_gradient(given.problem, given.policy)
    forward = forward_kl_gradient(given.problem, given.policy)
    moved = not _equal(given.policy, given.problem.base, EXACT)
    found = {
        (term, place): kl_estimate(given, term, place)
        for term, place in (("k1", "reward"), ("k1", "loss"), ("k2", "loss"), ("k3", "reward"), ("k3", "loss"))
    }

    def equals(source: str, words: str, key: tuple[str, str], target: FloatArray, *, holds: bool = True) -> Claim:
        estimate = found[key]
        numbers = {
            "distance": float(np.linalg.norm(estimate.expectation - target)),
            "norm": float(np.linalg.norm(target)),
        }
        same = _equal(estimate.expectation, target, estimate.tolerance)
        return Claim(source, f"{key[0]} in the {key[1]}: {words}", (same == holds) if moved else None, numbers)

    return [
        equals(TANG, "grad KL(pi||p)", ("k1", "reward"), reverse),
        equals(TANG, "grad KL(p||pi)", ("k3", "loss"), forward),
        equals(TANG, "grad KL(pi||p) - grad KL(p||pi)", ("k3", "reward"), reverse - forward),
        equals(SHAH, "unbiased", ("k1", "reward"), reverse),
        equals(SHAH, "zero mean", ("k1", "loss"), np.zeros_like(reverse)),
        equals(SHAH, "biased", ("k3", "reward"), reverse, holds=False),
        equals(SHAH, "biased", ("k3", "loss"), reverse, holds=False),
        equals(OURS, "grad KL(pi||p)", ("k2", "loss"), reverse),
    ]


def _step_claims(given: Setting) -> list[Claim]:
    """Return what a small step against E[g], added as a penalty, does to KL(pi||p): its slope is -E[g] . grad KL.

    Shah's stable and collapsing runs are read as the sign of this slope at the policy given. It is not the whole
    dynamics: k3 in the reward raises the KL from some policies and lowers it from others.
    """
    reverse = kl_gradient(given.problem, given.policy)
    found = []
    for term, place, word, sign in (
        ("k1", "reward", "stable", -1.0),
        ("k3", "reward", "collapses", 1.0),
        ("k3", "loss", "stable", -1.0),
    ):
        estimate = kl_estimate(given, term, place)
        slope = -float(estimate.expectation @ reverse)
        told = abs(slope) > estimate.tolerance * float(np.linalg.norm(reverse))
        effect = "raises" if sign > 0 else "lowers"
        words = f"{term} in the {place} {word}: its step {effect} KL(pi||p)"
        found.append(Claim(SHAH, words, bool(sign * slope > 0) if told else None, {"kl_slope": slope}))
    return found


def bernoulli_claim() -> Claim:
    """Return the published Bernoulli example: policy .8, reference .5, derivatives in the mean m.

    With two outcomes d/d theta_0 = m (1 - m) d/dm.
    """
    m = BERNOULLI_MEAN
    reference = Problem([BERNOULLI_REFERENCE, 1.0 - BERNOULLI_REFERENCE], [1.0, 0.0])
    given = setting(Objective(), reference, [m, 1.0 - m], 1)
    numbers = {
        "k1 in reward": float(kl_estimate(given, "k1", "reward").expectation[0]) / (m * (1.0 - m)),
        "k3 in loss": float(kl_estimate(given, "k3", "loss").expectation[0]) / (m * (1.0 - m)),
    }
    agree = (
        abs(numbers["k1 in reward"] - PUBLISHED_REVERSE) <= PUBLISHED_DIGITS
        and abs(numbers["k3 in loss"] - PUBLISHED_FORWARD) <= PUBLISHED_DIGITS
    )
    return Claim(TANG, "Bernoulli .8, .5: 1.38629 and 1.875", agree, numbers)


def _advantage_claims(given: Setting) -> list[Claim]:
    rloo = policy_gradient_estimate(given, "rloo")
    baseline = policy_gradient_estimate(given, "mean-baseline")
    grpo = policy_gradient_estimate(given, "grpo")
    token_mean = policy_gradient_estimate(given, "rloo", "token-mean")
    size = given.groups.size
    sloped = not _equal(rloo.target, np.zeros_like(rloo.target), rloo.tolerance)
    unequal = float(np.ptp(given.problem.length)) > 0.0
    shrunk = _equal(baseline.expectation, (1 - 1 / size) * baseline.target, baseline.tolerance)

    def numbers(estimate: Estimate) -> dict[str, float]:
        optional = {"scale": estimate.scale, "cosine": estimate.cosine}
        return {"bias_norm": estimate.bias_norm} | {name: x for name, x in optional.items() if x is not None}

    # With two outcomes there is one direction only, so a wrong one cannot show.
    telling = sloped and unequal and given.problem.n > 2
    return [
        Claim("Kool 2019", "RLOO is unbiased", rloo.unbiased, numbers(rloo)),
        Claim(OURS, "a mean baseline gives (1 - 1/G) of the gradient", shrunk, numbers(baseline)),
        Claim(OURS, "GRPO's division by the deviation is biased", not grpo.unbiased if sloped else None, numbers(grpo)),
        Claim(
            OURS,
            "with unequal lengths the token mean turns the gradient",
            not token_mean.proportional if telling else None,
            numbers(token_mean),
        ),
    ]


def _equal(one: FloatArray, other: FloatArray, tolerance: float) -> bool:
    return float(np.linalg.norm(one - other)) <= tolerance
