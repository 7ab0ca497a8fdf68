"""The Gibbs policy of one pass beside SciPy and mpmath: any size of block, far tails, KLs that cancel."""

from __future__ import annotations

import tracemalloc

import mpmath
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from sharpen.objective import InputError, Objective
from sharpen.theory.core import backend, change
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.optimum import optimum

OBJECTIVES = [Objective(alpha=2.0), Objective(alpha=0.5, beta_inv=3.0), Objective(alpha=4.0, normalization="mean")]


def problem(n: int, spread: float, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    log_p = spread * rng.normal(size=n)
    log_p[3::7] = -np.inf
    return Problem.from_log(log_softmax(log_p), rng.normal(size=n), rng.integers(1, 9, n).astype(float))


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_numbers_are_scipy_s_for_blocks_of_any_size(
    objective: Objective, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "BLOCK", block)
    monkeypatch.setattr(change, "BLOCK", block)
    given = problem(300, 3.0)
    best = optimum(objective, given)
    w_h = 1.0 / objective.beta_inv if objective.beta_inv else 1.0
    inside = given.log_base > -np.inf
    log_p, r, length = given.log_base[inside], given.reward[inside], given.length[inside]
    score = log_p / length if objective.normalization == "mean" else log_p
    u = (r if objective.beta_inv else 0.0) + (objective.alpha - 1.0) * w_h * score + w_h * log_p
    pi = softmax(u / w_h)
    np.testing.assert_allclose(best.probabilities[inside], pi, rtol=1e-12)
    assert not best.probabilities[~inside].any()
    assert best.expected_reward == pytest.approx(pi @ r, rel=1e-12)
    assert best.entropy == pytest.approx(-(pi @ log_softmax(u / w_h)), rel=1e-12)
    assert best.kl_to_base == pytest.approx(rel_entr(pi, np.exp(log_p)).sum(), rel=1e-12)
    assert best.value == pytest.approx(pi @ u - w_h * (pi @ log_softmax(u / w_h)), rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0 + 2.0**-30, 1.0 + 2.0**-20, 1.0 - 2.0**-10, 1.25])
def test_a_kl_that_cancels_keeps_its_digits(alpha: float) -> None:
    given = problem(60, 2.0)
    best = optimum(Objective(alpha=alpha), given)
    with mpmath.workdps(60):
        log_p = [mpmath.mpf(x) for x in given.log_base.tolist() if x > -np.inf]
        mass = [mpmath.exp(alpha * x) for x in log_p]
        total = mpmath.fsum(mass)
        base = mpmath.fsum(mpmath.exp(x) for x in log_p)
        pi = [m / total for m in mass]
        kl = mpmath.fsum(q * (mpmath.log(q) - x + mpmath.log(base)) for q, x in zip(pi, log_p, strict=True))
    # The policy's logarithms have errors of 1e-16 |log pi|, to which the change from the base is in proportion. Without
    # abs=0 numbers that differ by 1e-12 would be equal here, and the KL itself is as small as 1e-18.
    assert best.kl_to_base == pytest.approx(float(kl), rel=1e-9 + 1e-14 / abs(alpha - 1.0), abs=0)


def test_far_levels_in_different_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block alone has mass, by exp(-10^5) and less in the others; and one block has no outcome of the base."""
    monkeypatch.setattr(backend, "BLOCK", 4)
    log_p = np.concatenate([np.full(4, -1e5), np.full(4, -np.inf), [-700.0, -800.0, -900.0, 0.0]])
    best = optimum(Objective(alpha=2.0, beta_inv=1e6), Problem.from_log(log_p, np.r_[1.0, np.zeros(11)]))
    assert best.support_size == 8
    assert best.log_probabilities[0] == 0.0  # 1e6 of reward against 2e5 of likelihood
    assert best.log_probabilities[11] == pytest.approx(2e5 - 1e6, rel=1e-15)
    assert best.kl_to_base == pytest.approx(1e5, rel=1e-15)
    assert best.entropy == 0.0


def test_weights_that_overflow_are_refused_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "BLOCK", 2)
    base = Problem.from_log([0.0, -800.0, -900.0, -np.inf], np.zeros(4))
    with pytest.raises(InputError, match="alpha"):
        optimum(Objective(alpha=1e306), base)


def test_no_temporary_is_as_long_as_the_problem() -> None:
    n = 2**20
    given = Problem(np.full(n, 1.0 / n), np.arange(n) % 2)
    tracemalloc.start()
    try:
        best = optimum(Objective(alpha=2.0), given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert best.log_probabilities.nbytes == 8 * n
    assert peak < 8 * n + 16 * 8 * backend.BLOCK
