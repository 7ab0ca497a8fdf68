"""The optimum and the response in JAX float64 and in NumPy; log p down to -10^6, alpha to 10^4, n to 10^7."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.special import log_softmax

from sharpen.objective import Objective, preset
from sharpen.theory.core import backend
from sharpen.theory.core.flow import log_softmax_limit, softmax_limit
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.limits import limits
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.optima.response import curve

NAMES = ("sum", "mean", "none")


def close(jax_numbers, numpy_numbers, size: float = 1.0) -> None:
    """Agree to 1e-10, relative to the size of the terms where they are large."""
    np.testing.assert_allclose(np.asarray(jax_numbers), numpy_numbers, rtol=1e-10, atol=1e-10 * size)


@pytest.mark.parametrize("normalization", NAMES)
@pytest.mark.parametrize("mode", ["sampling", "optimization"])
@pytest.mark.parametrize(("alpha", "beta_inv", "spread"), [(0.5, 0.0, 1.0), (4.0, 100.0, 1e4), (1e4, 1.0, 6e5)])
def test_jax_and_numpy_agree(normalization: str, mode: str, alpha: float, beta_inv: float, spread: float) -> None:
    if normalization == "none" and mode == "optimization" and beta_inv == 0.0:
        return  # an objective without any term is refused
    objective = Objective.model_validate(
        {"alpha": alpha, "beta_inv": beta_inv, "mode": mode, "normalization": normalization}
    )
    rng = np.random.default_rng(int(alpha + beta_inv))
    log_p = log_softmax(spread * rng.normal(size=40))
    log_p[3] = -np.inf
    assert spread < 6e5 or log_p[np.isfinite(log_p)].min() < -1e6
    given_ = (rng.normal(size=40), log_p, rng.integers(1, 9, size=40).astype(float))
    here = backend.log_optimum(objective, *given_)
    with np.errstate(invalid="ignore"):  # outside the support, where nothing is read
        numbers = backend.summarize(objective, here, *given_)
    grid = np.array([0.0, 0.7, alpha])
    with jax.enable_x64():
        there_given = tuple(jnp.asarray(x) for x in given_)
        there = backend.log_optimum(objective, *there_given)
        assert there.dtype == jnp.float64
        inside = np.isfinite(here)
        assert np.array_equal(np.isfinite(np.asarray(there)), inside)
        close(np.asarray(there)[inside], here[inside], alpha * spread)
        for mine, theirs in zip(numbers, backend.summarize(objective, there, *there_given), strict=True):
            close(theirs, mine, max(1.0, abs(float(numbers.value))))
        if mode == "sampling":
            mine = backend.moments(backend.family(objective, "alpha", *given_), grid)
            theirs = backend.moments(backend.family(objective, "alpha", *there_given), jnp.asarray(grid))
            for name, a, b in zip(mine._fields, mine, theirs, strict=True):
                close(b, a, spread**2 if name == "variance" else alpha * spread)


def test_the_optimum_may_be_traced() -> None:
    log_p = log_softmax(np.arange(5.0))
    for objective in (Objective(alpha=2.0), preset("sharpening")):
        with jax.enable_x64():
            traced = jax.jit(lambda x, o=objective: backend.log_optimum(o, jnp.zeros(5), x))(jnp.asarray(log_p))
        np.testing.assert_allclose(np.asarray(traced), backend.log_optimum(objective, np.zeros(5), log_p), atol=1e-12)


@settings(max_examples=15)
@given(data=st.data())
def test_jax_and_numpy_agree_on_random_problems(kit: SimpleNamespace, data: st.DataObject) -> None:
    problem, objective = data.draw(kit.problems(most=3)), data.draw(kit.objectives())
    arrays = (problem.reward, problem.log_base, problem.length)
    best = optimum(objective, problem)
    with jax.enable_x64():
        there = backend.log_optimum(objective, *(jnp.asarray(x) for x in arrays))
        close(jnp.exp(there), best.probabilities)
        found = backend.summarize(objective, there, *(jnp.asarray(x) for x in arrays))
    close(found.value, best.value, max(1.0, abs(best.value)))
    close(found.kl_to_base, best.kl_to_base)


@pytest.mark.parametrize(("alpha", "beta_inv"), [(0.5, 0.0), (2.0, 1.0), (1e4, 0.0), (1e4, 1e9), (1e-3, 7e5)])
def test_far_tails_in_sixty_digits(alpha: float, beta_inv: float) -> None:
    log_p = np.array([-0.5, -1.0, -40.0, -900.0, -1e5, -1e6])
    log_p[0] = np.log1p(-np.exp(log_p[1:]).sum())
    problem = Problem.from_log(log_p, [0.0, 0.25, 0.5, 1.0, 0.75, 1.0])
    best = optimum(Objective(alpha=alpha, beta_inv=beta_inv), problem)
    with mpmath.workdps(60):
        level = [
            alpha * mpmath.mpf(p) + beta_inv * mpmath.mpf(r)
            for p, r in zip(problem.log_base.tolist(), problem.reward.tolist(), strict=True)
        ]
        total = mpmath.log(mpmath.fsum(mpmath.exp(x - max(level)) for x in level)) + max(level)
        exact = [float(x - total) for x in level]
        size = max(abs(float(x)) for x in level)
        reward = float(mpmath.fsum(mpmath.exp(x - total) * r for x, r in zip(level, problem.reward.tolist())))  # noqa: B905
    np.testing.assert_allclose(best.log_probabilities, exact, rtol=4e-16, atol=4e-16 * size)
    assert best.expected_reward == pytest.approx(reward, abs=1e-12 + 1e-15 * size)
    slope = curve(Objective(alpha=alpha, beta_inv=beta_inv), problem, "alpha", [alpha])
    assert slope.expected_reward[0] == pytest.approx(reward, abs=1e-12 + 1e-15 * size)


def test_ten_million_outcomes() -> None:
    """A base of two kinds: k outcomes of mass a each and the rest of mass b each, so everything is a formula."""
    n, k, alpha = 10**7, 1000, 2.0
    a = 0.5 / k
    b = 0.5 / (n - k)
    log_p = np.full(n, np.log(b))
    log_p[:k] = np.log(a)
    reward = np.zeros(n)
    reward[: k // 2] = 1.0
    problem = Problem.from_log(log_p, reward)
    best = optimum(Objective(alpha=alpha), problem)
    z = k * a**alpha + (n - k) * b**alpha
    assert best.log_probabilities[0] == pytest.approx(alpha * np.log(a) - np.log(z), rel=1e-12)
    assert best.log_probabilities[-1] == pytest.approx(alpha * np.log(b) - np.log(z), rel=1e-12)
    assert best.expected_reward == pytest.approx(k / 2 * a**alpha / z, rel=1e-10)
    q = k * a**alpha / z
    assert best.kl_to_base == pytest.approx(q * np.log(q / 0.5) + (1 - q) * np.log((1 - q) / 0.5), rel=1e-9)
    found = curve(Objective(), problem, "alpha", [alpha])
    # Cov(r, log p) = (1/2) q (1 - q) log(a / b): r is 1 on half of the first kind.
    assert found.derivative[0] == pytest.approx(0.5 * q * (1 - q) * np.log(a / b), rel=1e-9)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_moments_do_not_depend_on_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    offset, slope, reward = 3.0 * rng.normal(size=(3, 20))
    grid = np.array([-1.0, 0.0, 0.5, 3.0, 50.0])
    monkeypatch.setattr(backend, "BLOCK", block)
    found = backend.moments(backend.Family(offset, slope, reward), grid)
    for i, t in enumerate(grid.tolist()):
        pi = np.exp(log_softmax(offset + t * slope))
        covariance = np.cov(np.stack([reward, slope]), aweights=pi, ddof=0)
        expected = [pi @ reward, pi @ slope, covariance[0, 1], covariance[1, 1]]
        numbers = [found.reward[i], found.slope[i], found.covariance[i], found.variance[i]]
        np.testing.assert_allclose(numbers, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block", [5, 20])
@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("ends", [(0.0, 6.0), (3.0, -2.0), (1e-6, 2e-6)])
def test_even_grids_that_share_their_exponentials(
    ends: tuple[float, float], spread: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """37 points are more than share one exponential; with a large spread masses vanish and come back."""
    rng = np.random.default_rng(1)
    offset, slope, reward = rng.normal(size=(3, 20)) * [[3.0], [spread], [1.0]]
    offset[4:9] = -np.inf  # a whole block without base probability
    inside = offset > -np.inf
    grid = np.linspace(*ends, 37)
    monkeypatch.setattr(backend, "BLOCK", block)
    found = backend.moments(backend.Family(offset, slope, reward), grid)
    with mpmath.workdps(400):
        for i, t in enumerate(grid.tolist()):
            x = [
                mpmath.mpf(a) + mpmath.mpf(t) * mpmath.mpf(b)
                for a, b in zip(offset[inside], slope[inside], strict=True)
            ]
            mass = [mpmath.exp(each) for each in x]
            total = mpmath.fsum(mass)
            pi = [m / total for m in mass]
            r, s = ([mpmath.mpf(v) for v in values[inside].tolist()] for values in (reward, slope))
            mean_r, mean_s = (mpmath.fsum(p * v for p, v in zip(pi, values, strict=True)) for values in (r, s))
            cov = mpmath.fsum(p * (a - mean_r) * (b - mean_s) for p, a, b in zip(pi, r, s, strict=True))
            var = mpmath.fsum(p * (b - mean_s) ** 2 for p, b in zip(pi, s, strict=True))
            wanted = [float(mpmath.log(total)), float(mean_r), float(mean_s), float(var)]
            numbers = [found.log_partition[i], found.reward[i], found.slope[i], found.variance[i]]
            np.testing.assert_allclose(numbers, wanted, rtol=1e-10, atol=1e-12)
            size = math.sqrt(float(var) * float(mpmath.fsum(p * (a - mean_r) ** 2 for p, a in zip(pi, r, strict=True))))
            assert found.covariance[i] == pytest.approx(float(cov), rel=1e-9, abs=1e-11 * size)


@settings(max_examples=30)
@given(data=st.data(), beta_inv=st.sampled_from([0.0, 0.5, 2.0]))
def test_limits_are_where_large_parameters_go(data: st.DataObject, beta_inv: float, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems())
    gaps = [np.diff(np.sort(x))[-1] for x in (problem.reward, np.log(problem.base))]
    if min(gaps) < 1e-3:
        return  # the race takes longer than float64 can follow; ties are in the next test
    alpha = 2.0
    found = limits(Objective(alpha=alpha, beta_inv=beta_inv), problem)
    far = Objective(alpha=alpha, beta_inv=60.0 / gaps[0])
    np.testing.assert_allclose(np.exp(found["beta_inv"]), optimum(far, problem).probabilities, atol=1e-9)
    far = Objective(alpha=1.0 + 100.0 / gaps[1] + beta_inv * 2 / gaps[1], beta_inv=beta_inv)
    np.testing.assert_allclose(np.exp(found["alpha"]), optimum(far, problem).probabilities, atol=1e-9)
    np.testing.assert_array_equal(found["base"], problem.log_base)


def test_limits_with_ties() -> None:
    problem = Problem([0.3, 0.3, 0.2, 0.2], [0, 1, 1, 0])
    found = limits(Objective(alpha=3.0), problem)
    p = np.array([0.3, 0.3, 0.2, 0.2])
    restricted = np.where([0, 1, 1, 0], p**3, 0)
    np.testing.assert_allclose(np.exp(found["beta_inv"]), restricted / restricted.sum(), rtol=1e-13)
    np.testing.assert_allclose(np.exp(found["alpha"]), [0.5, 0.5, 0, 0], rtol=1e-13)
    tilted = limits(Objective(alpha=3.0, beta_inv=2.0), problem)
    np.testing.assert_allclose(np.exp(tilted["alpha"]), [1 / (1 + np.e**2), 1 / (1 + np.e**-2), 0, 0], rtol=1e-13)
    with pytest.raises(ValueError, match="mode"):
        limits(preset("sharpening"), problem)


@settings(max_examples=8)
@given(data=st.data())
def test_the_softmax_gradient_ends_where_scipy_does(data: st.DataObject, kit: SimpleNamespace) -> None:
    problem = data.draw(kit.problems(most=4))
    objective = data.draw(kit.objectives(mode="optimization"))
    oracle = kit.Oracle(objective, problem)
    level = np.sort(oracle.advantage(np.zeros(problem.n)))
    assume(level[-1] - level[-2] > 1e-2 * (1.0 + abs(level[-1])))  # no face but a vertex; faces are in the next test
    found = softmax_limit(objective, problem, problem.base)
    pi = followed(lambda theta: oracle.advantage(log_softmax(theta)), np.log(problem.base))
    assert int(np.argmax(pi)) == int(np.argmax(found))
    assert oracle.value(found) >= oracle.value(pi) - 1e-9 * (1 + abs(oracle.value(pi)))


@settings(max_examples=20)
@given(data=st.data())
def test_with_entropy_the_softmax_gradient_ends_in_the_optimum(data: st.DataObject, kit: SimpleNamespace) -> None:
    problem, objective = data.draw(kit.problems(most=4)), data.draw(kit.objectives(mode="sampling"))
    found = log_softmax_limit(objective, problem, problem.base)
    advantage = kit.Oracle(objective, problem).advantage(found)
    np.testing.assert_allclose(advantage, advantage.mean(), rtol=1e-9, atol=1e-9)  # the gradient is 0 here


def followed(advantage: Callable[[np.ndarray], np.ndarray], theta: np.ndarray) -> np.ndarray:
    """Return where the vanilla gradient flow is after a length of 20 logits, before rounding decides its direction."""

    def push(_: float, theta: np.ndarray) -> np.ndarray:
        pi = np.exp(log_softmax(theta))
        g = pi * (advantage(theta) - pi @ advantage(theta))
        return g / np.abs(g).max()

    return np.exp(log_softmax(solve_ivp(push, (0.0, 20.0), theta, rtol=1e-6, atol=1e-8).y[:, -1]))


@pytest.mark.parametrize("n", [3, 4])
def test_the_softmax_gradient_keeps_the_likeliest_of_the_face(n: int) -> None:
    """Every face of a few outcomes: the vanilla flow of sum_face pi in logits, integrated by SciPy."""
    p = np.arange(n, 0, -1) / np.arange(n, 0, -1).sum()
    for size in range(1, n):
        for face in itertools.combinations(range(n), size):
            r = np.isin(np.arange(n), face).astype(float)
            pi = followed(lambda _, r=r: r, np.log(p))
            found = softmax_limit(preset("task-reward"), Problem(p, r), p)
            np.testing.assert_allclose(found, np.eye(n)[min(face)], atol=1e-12)
            assert int(np.argmax(pi)) == min(face)


def test_the_softmax_gradient_with_ties_and_without_an_outcome_to_lose() -> None:
    tied = Problem([0.2, 0.2, 0.6], [1, 1, 0])
    np.testing.assert_allclose(softmax_limit(preset("task-reward"), tied, tied.base), [0.5, 0.5, 0.0], rtol=1e-14)
    all_right = Problem([0.5, 0.3, 0.2], [1, 1, 1])
    np.testing.assert_allclose(softmax_limit(preset("task-reward"), all_right, all_right.base), all_right.base)
    far = Problem.from_log([0.0, -1e6], [0.0, 1.0])
    np.testing.assert_allclose(log_softmax_limit(Objective(alpha=2.0), far, far.base), [0.0, -2e6], rtol=1e-15)
