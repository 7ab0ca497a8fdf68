"""Small and large KLs to every digit, and best-of-N where shares and tails round away; mpmath is the oracle."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.objective import Objective
from sharpen.theory.core.change import kl_terms, kl_to_base, tilted
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.best_of_n import best_of_n_kl, compare_at_equal_kl, log_best_of_n
from sharpen.theory.optima.frontier import at_kl, kl_curve

Exact = Any  # mpmath.mpf: the package has no types
KLS = [1e-200, 1e-30, 1e-20, 1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.5]
ANSWERS = [0, 1, 1, 2, 0]


def exact_base() -> list[Exact]:
    p = [mpmath.mpf(x) for x in DEFAULT_PROBLEM.base.tolist()]
    return [x / mpmath.fsum(p) for x in p]


def exact_kl(policy: list[Exact], base: list[Exact]) -> Exact:
    return mpmath.fsum(x * mpmath.log(x / y) for x, y in zip(policy, base, strict=True) if x > 0)


def member(name: str, step: Exact) -> list[Exact]:
    """The policy of a family, step beyond its parameter at the base."""
    p = exact_base()
    if name == "best-of-n":
        upto = [mpmath.fsum(p[i:]) for i in range(len(p) + 1)]  # the default base falls
        return [upto[i] ** (1 + step) - upto[i + 1] ** (1 + step) for i in range(len(p))]
    mass = {a: mpmath.fsum(x for x, b in zip(p, ANSWERS, strict=True) if a == b) for a in ANSWERS}
    level = {
        "power": [mpmath.log(x) for x in p],
        "tilt": [mpmath.mpf(r) for r in DEFAULT_PROBLEM.reward.tolist()],
        "answer-power": [mpmath.log(mass[a]) for a in ANSWERS],
    }[name]
    weight = [x * mpmath.exp(step * s) for x, s in zip(p, level, strict=True)]
    total = mpmath.fsum(weight)
    return [w / total for w in weight]


def exact_step(name: str, kl: float) -> Exact:
    """The step at which a family has this KL, by bisection on its logarithm."""
    low, high = mpmath.mpf(10) ** -120, mpmath.mpf(50)
    for _ in range(70):
        middle = mpmath.sqrt(low * high)
        low, high = (middle, high) if exact_kl(member(name, middle), exact_base()) < kl else (low, middle)
    return low


@pytest.mark.parametrize("kl", KLS)
def test_every_family_delivers_the_kl_that_was_asked(kl: float) -> None:
    rows = compare_at_equal_kl(DEFAULT_PROBLEM, kl, ANSWERS)
    starts = {"power": 1.0, "best-of-n": 1.0, "tilt": 0.0, "answer-power": 1.0}
    assert set(rows) == set(starts)
    with mpmath.workdps(260):
        for name, row in rows.items():
            assert row is not None
            assert row.kl == pytest.approx(kl, rel=1e-12, abs=0)
            step = exact_step(name, kl)
            # A parameter 1 + step holds the step to 1e-16 only; so does the policy it gives.
            assert row.parameter - starts[name] == pytest.approx(float(step), rel=1e-9, abs=4e-16)
            policy = member(name, step)
            reward = float(mpmath.fsum(x * r for x, r in zip(policy, DEFAULT_PROBLEM.reward.tolist(), strict=True)))
            assert row.expected_reward == pytest.approx(reward, rel=1e-10)
            if kl >= 1e-12:  # the parameter is shown to people, and the policy of that very number has the KL too
                shown = exact_kl(member(name, mpmath.mpf(row.parameter) - starts[name]), exact_base())
                assert float(shown) == pytest.approx(kl, rel=1e-8, abs=0)


@pytest.mark.parametrize("kl", KLS)
@pytest.mark.parametrize("objective", [Objective(alpha=2.0), Objective(alpha=1.0, beta_inv=1.0)])
def test_the_frontier_delivers_it_too(objective: Objective, kl: float) -> None:
    found = at_kl(objective, DEFAULT_PROBLEM, kl)
    assert found is not None
    assert found.kl == pytest.approx(kl, rel=1e-9, abs=0)
    name = "tilt" if objective.beta_inv else "power"
    with mpmath.workdps(260):
        step = float(exact_step(name, kl))
    parameter = found.beta_inv if objective.beta_inv else found.alpha - 1.0
    assert parameter == pytest.approx(step, rel=1e-8, abs=4e-16)


CHANGE = st.one_of(st.floats(-1.2, 1.2), st.floats(-800.0, 700.0), st.floats(-400.0, 0.0).map(lambda x: 10.0**x / 3.0))


@settings(max_examples=300)
@given(change=CHANGE, log_p=st.floats(-600.0, 0.0))
def test_the_terms_of_the_kl_to_every_digit(change: float, log_p: float) -> None:
    log_p = min(log_p, -change)  # pi <= 1
    found = kl_terms(np.array([log_p]), np.array([change]))[0]
    with mpmath.workdps(900):
        d = mpmath.mpf(change)
        exact = mpmath.exp(mpmath.mpf(log_p)) * (d * mpmath.exp(d) - mpmath.expm1(d))
    if exact > mpmath.mpf("1e-300"):
        assert found == pytest.approx(float(exact), rel=1e-12, abs=0)
    else:
        assert 0.0 <= found <= 1e-299


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_small_changes_lose_nothing(sign: float) -> None:
    change = sign * np.concatenate([np.geomspace(1e-150, 1.0, 301), np.linspace(0.01, 1.0, 100)])
    found = kl_terms(np.full(change.size, np.log(0.25)), change)
    with mpmath.workdps(400):
        p = mpmath.exp(mpmath.mpf(float(np.log(0.25))))
        exact = [float(p * (d * mpmath.exp(d) - mpmath.expm1(d))) for d in map(mpmath.mpf, change.tolist())]
    np.testing.assert_allclose(found, exact, rtol=4e-14)


def test_outcomes_outside_a_policy_or_the_base() -> None:
    log_p = np.log([0.5, 0.25, 0.25])
    assert kl_to_base(log_p, np.array([np.log(2.0), -np.inf, -np.inf])) == pytest.approx(np.log(2.0), rel=1e-15)
    assert kl_to_base(np.array([0.0, -np.inf]), np.zeros(2)) == 0.0
    assert tilted(np.array([0.0, -np.inf]), np.array([3.0, 9.0])).tolist() == [0.0, 0.0]


@settings(max_examples=100, deadline=None)
@given(
    level=st.lists(st.floats(-900.0, 0.0), min_size=2, max_size=5),
    slope=st.lists(st.floats(-3.0, 3.0), min_size=5, max_size=5),
    size=st.sampled_from([1e-200, 1e-9, 0.3, 3.0, 1000.0]),
)
def test_tilts_of_any_size(level: list[float], slope: list[float], size: float) -> None:
    log_p = np.array(level) - np.logaddexp.reduce(level)
    exponent = size * np.array(slope[: log_p.size])
    found = tilted(log_p, exponent)
    with mpmath.workdps(600):
        p = [mpmath.exp(mpmath.mpf(x)) for x in log_p.tolist()]
        total = mpmath.fsum(p)
        z = mpmath.fsum(x / total * mpmath.exp(mpmath.mpf(e)) for x, e in zip(p, exponent.tolist(), strict=True))
        exact = [float(mpmath.mpf(e) - mpmath.log(z)) for e in exponent.tolist()]
    # log p of 900 nats has a rounding error of 1e-13, which is one of p and so of the mean exponent.
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.parametrize(
    ("log_p", "score", "count"),
    [
        # The best outcome is rare: F of the rest is 1 less 1e-20, which decides at N = 1e20.
        ([-46.051701859880914, 0.0], [1.0, 0.0], 1e20),
        ([-46.051701859880914, -0.6931471805599453, -0.6931471805599453], [2.0, 1.0, 0.0], 3e20),
        # A class whose share of what lies below it is 1e-18: F(s) and F(s-) are one number.
        ([-0.10536051565782628, -43.7491167668869, -2.3025850929940455], [2.0, 1.0, 0.0], 5.0),
        ([-0.10536051565782628, -43.7491167668869, -2.3025850929940455], [0.0, 1.0, 2.0], 7.5),
        # A share that underflows, above a large and below a small one.
        ([-800.0, 0.0, -900.0], [2.0, 1.0, 0.0], 9.0),
        ([0.0, -800.0, -1500.0], [0.0, 1.0, 2.0], 1e100),
        ([-3.0, -0.05106918, -900.0, -5.0], [3.0, 2.0, 1.0, 0.0], 1.0 + 1e-9),
        # The likeliest half on top, and half at the bottom.
        ([-0.6931471805599453, -0.6931471805599453], [1.0, 0.0], 60.0),
    ],
)
def test_best_of_n_where_tails_round_away(log_p: list[float], score: list[float], count: float) -> None:
    problem = Problem.from_log(np.array(log_p) - np.logaddexp.reduce(log_p), np.zeros(len(log_p)))
    found = log_best_of_n(problem, count, score)
    with mpmath.workdps(1200):
        p = [mpmath.exp(mpmath.mpf(x)) for x in problem.log_base.tolist()]
        p = [x / mpmath.fsum(p) for x in p]
        n = mpmath.mpf(count)
        law = []
        for mine in score:
            upto = mpmath.fsum(x for x, s in zip(p, score, strict=True) if s <= mine)
            below = mpmath.fsum(x for x, s in zip(p, score, strict=True) if s < mine)
            law.append(upto**n - below**n)
        exact = [float(mpmath.log(x)) for x in law]
        kl = float(exact_kl(law, p))
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-12)
    assert best_of_n_kl(problem, count, score) == pytest.approx(kl, rel=1e-9, abs=0)


@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9])
def test_a_small_kl_on_the_curve(tiny: float) -> None:
    found = kl_curve(Objective(), DEFAULT_PROBLEM, "alpha", [1.0 + tiny])
    with mpmath.workdps(60):
        exact = exact_kl(member("power", mpmath.mpf(1.0 + tiny) - 1), exact_base())
    # log pi and log p are rounded here, each to 1e-16.
    assert found.kl[0] == pytest.approx(float(exact), rel=1e-14 / tiny + 1e-12, abs=0)
