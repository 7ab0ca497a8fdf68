"""Tilts at a given KL beside SciPy's brentq and mpmath: any size of KL and of block, tails, limits that are near."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import log_softmax, rel_entr, softmax

from sharpen.objective import InputError
from sharpen.theory.core import change
from sharpen.theory.core.goals import reach
from sharpen.theory.core.problem import Problem
from sharpen.theory.core.tilt import at_kl


def drawn(n: int, seed: int, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return log_softmax(spread * rng.normal(size=n)), rng.normal(size=n)


def kl_by_scipy(log_p: np.ndarray, f: np.ndarray, t: float) -> float:
    return float(rel_entr(softmax(log_p + t * f), softmax(log_p)).sum())


def kl_by_mpmath(log_p: np.ndarray, f: np.ndarray, t: float) -> float:
    with mpmath.workdps(80):
        p = [mpmath.exp(mpmath.mpf(x)) for x in log_p.tolist()]
        mass = [q * mpmath.exp(mpmath.mpf(t) * mpmath.mpf(x)) for q, x in zip(p, f.tolist(), strict=True)]
        total, base = mpmath.fsum(mass), mpmath.fsum(p)
        return float(
            mpmath.fsum(
                m / total * (mpmath.log(m / total) - mpmath.log(q / base)) for m, q in zip(mass, p, strict=True)
            )
        )


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
@pytest.mark.parametrize("kl", [0.01, 0.3, 2.0])
def test_the_parameter_is_brentq_s_for_blocks_of_any_size(
    kl: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "BLOCK", block)
    log_p, f = drawn(300, 0)
    wanted = brentq(lambda t: kl_by_scipy(log_p, f, t) - kl, 1e-6, 1e3, xtol=1e-14, rtol=np.float64(1e-14))
    found = at_kl(log_p, f, kl, 1.0)
    assert found.parameter == pytest.approx(wanted, rel=1e-11)
    np.testing.assert_allclose(np.exp(log_p + found.change), softmax(log_p + wanted * f), rtol=1e-10)
    assert found.kl == pytest.approx(kl, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(2, 40), share=st.floats(1e-6, 1.0 - 1e-6), start=st.floats(1e-6, 1e6))
def test_any_share_of_what_the_limit_has_is_met_from_any_start(seed: int, n: int, share: float, start: float) -> None:
    log_p, f = drawn(n, seed)
    kl = share * -float(log_p[np.argmax(f)])
    found = at_kl(log_p, f, kl, start)
    assert found.parameter > 0.0
    assert found.kl == pytest.approx(kl, rel=1e-11, abs=0)
    assert kl_by_scipy(log_p, f, found.parameter) == pytest.approx(kl, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("kl", [1e-250, 1e-30, 1e-15, 1e-9, 1e-7, 1e-4])
def test_small_kls_keep_their_digits(kl: float) -> None:
    log_p, f = drawn(30, 1)
    found = at_kl(log_p, f, kl, 1.0 if kl > 1e-100 else 1e-120)
    assert found.kl == pytest.approx(kl, rel=1e-12, abs=0)
    if kl > 1e-60:  # of what eighty digits leave after the sum has cancelled
        assert kl_by_mpmath(log_p, f, found.parameter) == pytest.approx(kl, rel=1e-11, abs=0)


def test_rewards_are_met_in_closed_form() -> None:
    # Of two kinds of outcomes, mass a: KL = binary kl, so the tilt's mass b and t are one equation of SciPy's.
    a = 0.2
    p = np.array([0.15, 0.05, 0.5, 0.3])
    for kl in (1e-6, 0.1, 1.0, 1.6):

        def excess(b: float, kl: float = kl) -> float:
            return b * math.log(b / a) + (1 - b) * math.log((1 - b) / (1 - a)) - kl

        b = brentq(excess, a, 1 - 1e-15, xtol=1e-16, rtol=np.float64(1e-14))
        found = at_kl(np.log(p), np.array([1.0, 1.0, 0.0, 0.0]), kl, 1.0)
        assert np.exp(np.log(p) + found.change)[:2].sum() == pytest.approx(b, rel=1e-9)


def test_outcomes_outside_the_base_and_below_the_smallest_number_take_part_as_they_should() -> None:
    log_p = np.array([-1e-12, -np.inf, -800.0])
    found = at_kl(log_p, np.array([0.0, 0.0, 1.0]), 300.0, 1.0)  # lifts an outcome whose p underflows
    mass = math.exp(-800.0 + found.parameter - np.logaddexp(0.0, -800.0 + found.parameter))
    assert found.change[1] == 0.0
    assert mass * (800.0 + math.log(mass)) + (1 - mass) * math.log1p(-mass) == pytest.approx(300.0, rel=1e-9)


def test_what_no_parameter_meets_is_said() -> None:
    log_p = np.log([0.5, 0.5])
    with pytest.raises(InputError, match="kl"):
        at_kl(log_p, np.array([1.0, 0.0]), 1.0, 1.0)
    assert at_kl(log_p, np.array([1.0, 0.0]), 0.0, 1.0).change.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rest", [1e-15, 1e-3, 0.3, 0.7, 1.0 - 1e-12])
def test_the_price_of_a_face_loses_nothing(rest: float) -> None:
    problem = Problem.from_log(np.array([math.log1p(-rest), math.log(rest)]), np.zeros(2))
    assert reach(problem, np.array([0])) == pytest.approx(-math.log1p(-rest), rel=1e-12, abs=0)
    assert reach(problem, np.array([1])) == pytest.approx(-math.log(rest), rel=1e-12, abs=1e-24)
    parts = [math.log1p(-rest) + math.log(share) for share in (0.3, 0.6, 0.1)]  # their sum rounds to 1 for a small rest
    several = Problem.from_log(np.array([*parts, math.log(rest)]), np.zeros(4))
    assert reach(several, np.arange(3)) == pytest.approx(-math.log1p(-rest), rel=1e-12, abs=0)
