"""Mean-square stability against sums over every group, runs of RLOO itself, closed forms and optax's Adam."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag, null_space
from scipy.signal import lfilter

from sharpen.objective import InputError
from sharpen.theory.instability.meansquare import (
    adam_runs,
    adam_steps,
    largest_stable_step,
    momentum_radius,
    safe_step,
    second_moment_map,
    sign_step_mean_square,
    spectral_radius,
)

BASE = [0.4, 0.3, 0.2, 0.1]
LAWS = st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5)
GROUPS = st.integers(2, 12)
SMALL = [(3, 1, 2, 1.0), (3, 1, 4, 2.0), (4, 1, 3, 0.5), (2, 1, 5, 1.0), (2, 2, 3, 3.0), (3, 2, 3, 1.0), (2, 3, 3, 1.0)]


def sharpened(base: Any, alpha: float) -> np.ndarray:
    p = np.asarray(base, float) ** alpha
    return p / p.sum()


def tangent_space(n: int, tokens: int) -> np.ndarray:
    """Return an orthonormal basis of the logits whose mean is 0 for each token, shape [T n, T (n - 1)]."""
    return np.asarray(block_diag(*[null_space(np.ones((1, n)))] * tokens))


def enumerated(law: np.ndarray, tokens: int, group: int, step: float) -> np.ndarray:
    """Return E[N kron N], N = I - step M, over every group of every sequence, in the tangent space."""
    n = law.size
    tangent = tangent_space(n, tokens)
    total = np.zeros((tangent.shape[1] ** 2,) * 2)
    for flat in itertools.product(range(n), repeat=tokens * group):
        samples = np.reshape(flat, (group, tokens))
        covariance = np.cov(np.eye(n)[samples].reshape(group, -1), rowvar=False)
        after = tangent.T @ (np.eye(n * tokens) - step * covariance) @ tangent
        total += np.prod(law[samples]) * np.kron(after, after)
    return total


def rloo(theta: np.ndarray, log_p: np.ndarray, alpha: float, samples: np.ndarray) -> np.ndarray:
    """Return RLOO's estimate with the reward alpha log p - log pi, by its textbook form.

    Shapes: theta [..., T, n], log_p [n], samples [..., G, T]; the estimate has the shape of theta.
    """
    group = samples.shape[-2]
    logprob = theta - np.log(np.exp(theta).sum(-1, keepdims=True))
    chosen = np.eye(theta.shape[-1])[samples]  # [..., G, T, n]
    reward = np.sum(chosen * (alpha * log_p - logprob)[..., None, :, :], axis=(-2, -1))  # [..., G]
    others = (reward.sum(-1, keepdims=True) - reward) / (group - 1)
    score = chosen - np.exp(logprob)[..., None, :, :]
    return np.mean((reward - others)[..., None, None] * score, axis=-3)


def mean_squares(base: Any, group: int, step: float, tokens: int, alpha: float, updates: int) -> np.ndarray:
    """Return what the map says of E |u|^2 of one token after 0, 1, ... updates from an isotropic start of size 1."""
    n = len(base)
    i, j = np.triu_indices(n - 1)
    now, after = (i == j) / (n - 1), second_moment_map(base, group, step, tokens, alpha)
    found = [1.0]
    for _ in range(updates):
        now = after @ now
        found.append(float(now[i == j].sum()))
    return np.array(found)


@pytest.mark.parametrize(("n", "tokens", "group", "alpha"), SMALL)
def test_radius_and_limit_against_every_group(n: int, tokens: int, group: int, alpha: float) -> None:
    base = np.random.default_rng(n + group).dirichlet(np.full(n, 2.0)) + 0.02
    limit = largest_stable_step(base, group, tokens, alpha)
    for part in (0.5, 0.95, 1.05, 2.0):
        exact = np.abs(np.linalg.eigvals(enumerated(sharpened(base, alpha), tokens, group, part * limit))).max()
        assert spectral_radius(base, group, part * limit, tokens, alpha) == pytest.approx(exact, rel=1e-9)
        assert (exact < 1) == (part < 1)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("n", "tokens", "group", "alpha"), [(3, 1, 3, 1.0), (2, 2, 2, 2.0), (3, 2, 2, 1.0)])
def test_momentum_against_every_group(n: int, tokens: int, group: int, alpha: float, momentum: float) -> None:
    base = np.random.default_rng(n).dirichlet(np.full(n, 2.0)) + 0.02
    law, tangent = sharpened(base, alpha), tangent_space(n, tokens)
    one, stable = np.eye(tangent.shape[1]), []
    for part in (0.5, 1.5, 6.0):
        step, total = part * largest_stable_step(base, group, tokens, alpha), 0.0
        for flat in itertools.product(range(n), repeat=tokens * group):
            samples = np.reshape(flat, (group, tokens))
            covariance = np.cov(np.eye(n)[samples].reshape(group, -1), rowvar=False)
            fresh = (1 - momentum) * tangent.T @ covariance @ tangent
            after = np.block([[one - step * fresh, step * momentum * one], [-fresh, momentum * one]])
            total = total + np.prod(law[samples]) * np.kron(after, after)
        exact = np.abs(np.linalg.eigvals(total)).max()
        assert momentum_radius(base, group, step, momentum, tokens, alpha) == pytest.approx(exact, rel=1e-7)
        stable.append(exact < 1)
    assert stable[0]
    assert not stable[-1]


@pytest.mark.parametrize(("n", "tokens", "group", "alpha"), SMALL)
def test_second_moments_against_every_group(n: int, tokens: int, group: int, alpha: float) -> None:
    base = np.random.default_rng(n).dirichlet(np.full(n, 2.0)) + 0.02
    each, size = enumerated(sharpened(base, alpha), tokens, group, 1.3), tokens * (n - 1)
    now, traces = np.eye(size).ravel() / size, []
    for _ in range(4):
        traces.append(np.trace(now.reshape(size, size)))
        now = each @ now
    np.testing.assert_allclose(mean_squares(base, group, 1.3, tokens, alpha, 3), traces, rtol=1e-10)


@pytest.mark.parametrize(("tokens", "group", "alpha"), [(1, 4, 1.0), (2, 2, 2.0), (2, 3, 1.0)])
def test_the_map_is_that_of_rloo_itself_near_the_optimum(tokens: int, group: int, alpha: float) -> None:
    base = np.array([0.5, 0.3, 0.2])
    optimum = np.tile(np.log(sharpened(base, alpha)), (tokens, 1))
    groups = np.array([*itertools.product(range(3), repeat=tokens * group)]).reshape(-1, group, tokens)
    directions = tangent_space(3, tokens).T.reshape(-1, tokens, 3)
    size, total = 1e-5, 0.0
    for direction in directions:
        theta = optimum + size * direction
        pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
        probability = np.prod(pi[np.arange(tokens), groups], axis=(1, 2))
        moved = theta + 1.7 * rloo(theta, np.log(base), alpha, groups) - optimum
        total += probability @ np.sum(moved**2, axis=(1, 2))
    expected = mean_squares(base, group, 1.7, tokens, alpha, 1)[1]
    assert total / size**2 / len(directions) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("part", [0.5, 1.4])
def test_runs_of_rloo_shrink_below_the_limit_and_grow_above(part: float, alpha: float) -> None:
    rng, chains, tokens, group, updates = np.random.default_rng(7), 10000, 3, 4, 8
    step = part * largest_stable_step(BASE, group, tokens, alpha)
    optimum = np.log(sharpened(BASE, alpha))
    theta = optimum + 1e-6 * rng.standard_normal((chains, tokens, 4))
    found = []
    for _ in range(updates + 1):
        deviation = theta - optimum
        found.append(np.mean(np.sum((deviation - deviation.mean(-1, keepdims=True)) ** 2, axis=(1, 2))))
        pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
        noise = -np.log(rng.random((chains, group, tokens, 4)))
        theta = theta + step * rloo(theta, np.log(BASE), alpha, np.argmin(noise / pi[:, None], axis=-1))
    expected = mean_squares(BASE, group, step, tokens, alpha, updates)
    np.testing.assert_allclose(np.log(np.array(found[1:]) / found[0]), np.log(expected[1:]), atol=0.3)
    assert found[-1] < found[0] / 3 if part < 1 else found[-1] > 3 * found[0]


def test_above_the_limit_the_mean_square_can_be_carried_by_few_runs() -> None:
    rng, chains, group, updates, optimum = np.random.default_rng(0), 1000, 8, 40, np.log(BASE)
    step = 1.05 * largest_stable_step(BASE, group)
    start = rng.standard_normal((chains, 1, 4))
    start = 1e-6 * (start - start.mean(-1, keepdims=True))
    theta = optimum + start
    for _ in range(updates):
        pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
        noise = -np.log(rng.random((chains, group, 1, 4)))
        theta = theta + step * rloo(theta, np.log(BASE), 1.0, np.argmin(noise / pi[:, None], axis=-1))
    deviation = theta - optimum
    deviation -= deviation.mean(-1, keepdims=True)
    ratios = np.sum(deviation**2, axis=(1, 2)) / np.sum(start**2, axis=(1, 2))
    assert np.mean(ratios < 1) > 0.8
    assert np.mean(ratios) > 1000 * np.median(ratios)
    assert mean_squares(BASE, group, step, 1, 1.0, updates)[-1] > 300


@given(base=LAWS, group=GROUPS, tokens=st.integers(1, 200), alpha=st.sampled_from([0.5, 1.0, 2.0]))
def test_the_radius_crosses_one_at_the_limit_and_not_below_the_safe_step(
    base: list[float], group: int, tokens: int, alpha: float
) -> None:
    limit = largest_stable_step(base, group, tokens, alpha)
    assert spectral_radius(base, group, 0.99 * limit, tokens, alpha) < 1
    assert spectral_radius(base, group, limit, tokens, alpha) == pytest.approx(1, abs=1e-9)
    assert spectral_radius(base, group, 1.01 * limit, tokens, alpha) > 1
    assert limit >= safe_step(group, tokens) * (1 - 1e-9)


@given(base=LAWS, tokens=st.integers(1, 300))
def test_pairs(base: list[float], tokens: int) -> None:
    h = 1 - np.sum(sharpened(base, 1.0) ** 2)
    assert largest_stable_step(base, 2, tokens) == pytest.approx(2 / (1 + (tokens - 1) * h), rel=1e-9)


@given(q=st.floats(0.01, 0.99), group=st.integers(2, 100))
def test_two_outcomes(q: float, group: int) -> None:
    expected = group * (group - 1) / ((group - 2) * (group - 3) * q * (1 - q) + group - 1)
    assert largest_stable_step([q, 1 - q], group) == pytest.approx(expected, rel=1e-9)


@given(base=LAWS, group=GROUPS)
def test_many_tokens_and_large_groups(base: list[float], group: int) -> None:
    law = sharpened(base, 1.0)
    covariance = np.diag(law) - np.outer(law, law)
    many = 10**7
    assert largest_stable_step(base, group, many) * many == pytest.approx(
        2 * (group - 1) / np.trace(covariance), rel=1e-3
    )
    mean = 2 / np.linalg.eigvalsh(covariance)[-1]
    assert largest_stable_step(base, 10**7, 3) == pytest.approx(mean, rel=1e-3)
    assert largest_stable_step(base, group) < mean


@settings(max_examples=50)
@given(data=st.data(), tokens=st.integers(1, 3), group=st.integers(2, 6), alpha=st.floats(0.2, 3.0))
def test_no_group_moves_any_policy_away_at_the_safe_step(
    data: st.DataObject, tokens: int, group: int, alpha: float
) -> None:
    base = sharpened(data.draw(LAWS), 1.0)
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    optimum = alpha * np.log(base)
    theta = optimum + 4 * rng.standard_normal((500, tokens, base.size))
    samples = rng.integers(base.size, size=(500, group, tokens))  # any group, however unlikely
    samples[:50] = samples[:50, :, :1]  # the worst: tokens that are copies of each other

    def away(theta: np.ndarray) -> np.ndarray:
        u = theta - optimum
        return np.sum((u - u.mean(-1, keepdims=True)) ** 2, axis=(1, 2))

    step = safe_step(group, tokens) * data.draw(st.floats(0.01, 1.0))
    after = away(theta + step * rloo(theta, np.log(base), alpha, samples))
    assert np.all(after <= away(theta) * (1 + 1e-9))


def test_the_safe_step_is_the_largest_of_its_kind() -> None:
    theta = np.array([[0.1, -0.1], [0.1, -0.1]])
    samples = np.array([[0, 0], [1, 1]])
    above = theta + 1.01 * safe_step(2, 2) * rloo(theta, np.zeros(2), 1.0, samples)
    assert np.sum(above**2) > np.sum(theta**2)


@settings(max_examples=30)
@given(
    distance=st.floats(-3, 3).filter(lambda d: abs(d) > 1e-6),
    first=st.floats(0.1, 0.9),
    group=st.integers(2, 6),
    alpha=st.sampled_from([1.0, 2.0]),
)
def test_sign_steps_against_every_group(distance: float, first: float, group: int, alpha: float) -> None:
    base, rate = np.array([first, 1 - first]), 0.05
    theta = np.array([distance, 0.0])[None] + np.log(sharpened(base, alpha))
    groups = np.array([*itertools.product(range(2), repeat=group)])[..., None]
    pi = np.exp(theta[0]) / np.exp(theta[0]).sum()
    gradient = rloo(theta, np.log(base), alpha, groups)[:, 0]
    mixed = np.ptp(groups[..., 0], axis=1) > 0  # elsewhere the estimate is zero but for rounding
    moves = rate * np.sign(gradient) * mixed[:, None]
    exact = np.prod(pi[groups], axis=(1, 2)) @ (distance + moves[:, 0] - moves[:, 1]) ** 2
    found, floor = sign_step_mean_square(distance, first, group, rate, alpha)
    assert float(found) == pytest.approx(exact, rel=1e-9)
    assert floor <= found * (1 + 1e-12)


def test_the_floor_is_reached() -> None:
    mixed = 1 - 0.5**7  # eight samples of two equally likely outcomes
    found, floor = sign_step_mean_square(2 * mixed * 1e-3, first=0.5, group=8, rate=1e-3)
    assert float(found) == pytest.approx(float(floor), rel=1e-3)


GRADIENTS = np.random.default_rng(3).standard_normal((40, 6)) * np.geomspace(1, 1e-3, 40)[:, None]


@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.1])
def test_adam_against_optax(eps: float) -> None:
    optimiser = optax.scale_by_adam(b1=0.8, b2=0.95, eps=eps)
    state, expected = optimiser.init(np.zeros(6)), []
    for gradient in GRADIENTS:
        update, state = optimiser.update(gradient, state)
        expected.append(0.3 * np.asarray(update))
    np.testing.assert_allclose(adam_steps(GRADIENTS, 0.3, eps, 0.8, 0.95), expected, rtol=1e-4, atol=1e-6)


@given(scale=st.floats(1e-30, 1e30), beta1=st.floats(0, 0.95), beta2=st.floats(0, 0.999))
def test_without_eps_the_gradients_scale_does_not_matter(scale: float, beta1: float, beta2: float) -> None:
    steps = adam_steps(GRADIENTS, 0.1, 0.0, beta1, beta2)
    np.testing.assert_allclose(adam_steps(scale * GRADIENTS, 0.1, 0.0, beta1, beta2), steps, rtol=1e-9)
    assert np.all(adam_steps(np.zeros((3, 2)), 0.1, 0.0) == 0)


@given(beta1=st.floats(0, 0.95), eps=st.floats(10.0, 1e6))
def test_with_gradients_far_below_eps_adam_is_averaged_gradient_ascent(beta1: float, eps: float) -> None:
    average = lfilter([1 - beta1], [1, -beta1], GRADIENTS, axis=0) / (1 - beta1 ** np.arange(1, 41))[:, None]
    error = np.abs(adam_steps(GRADIENTS, 0.1, eps, beta1) - 0.1 / eps * average)
    assert np.all(error <= 0.1 / eps * np.abs(average) * (np.abs(GRADIENTS).max() / eps) * (1 + 1e-6))


def test_adam_runs_against_a_plain_loop() -> None:
    base, alpha, group, updates = np.array([0.5, 0.3, 0.2]), 2.0, 3, 15
    rng, target = np.random.default_rng(4), sharpened(base, alpha)
    theta = np.log(target) + 0.3 * rng.standard_normal((2, 3))
    gradients: list[np.ndarray] = []
    for _ in range(updates):
        pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
        uniform = rng.random((2, group, 1))[..., 0]
        samples = np.array([np.searchsorted(np.cumsum(p), u) for p, u in zip(pi, uniform, strict=True)])
        gradients.append(rloo(theta[:, None], np.log(base), alpha, samples[..., None])[:, 0])
        theta = theta + adam_steps(gradients, 0.2, 0.01)[-1]
    pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
    expected = np.sum(pi * np.log(pi / target), axis=1)
    found = adam_runs(base, group, 0.2, 0.01, updates=updates, runs=2, start=0.3, alpha=alpha, seed=4)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_adam_leaves_the_optimum_with_a_small_eps_and_stays_with_a_large_one(alpha: float) -> None:
    small, large = (adam_runs(BASE, 4, 0.05, eps, alpha=alpha, updates=100) for eps in (1e-8, 0.1))
    assert np.median(small) > 1e-7
    assert np.max(large) < 1e-13
    assert np.max(small) < 0.1  # of the size of the rate, not of nats


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base": [1.0]}, "base"),
        ({"base": [0.5, 0.0]}, "base"),
        ({"base": [1.0, 1e-12]}, "base"),
        ({"base": [1.0] * 65}, "base"),
        ({"group": 1}, "group"),
        ({"tokens": 0}, "tokens"),
        ({"alpha": -1.0}, "alpha"),
        ({"step": 0.0}, "step"),
    ],
)
def test_bad_input(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as error:
        spectral_radius(**({"base": BASE, "group": 4, "step": 1.0} | change))
    assert error.value.field == field


def test_bad_input_of_the_steps() -> None:
    with pytest.raises(InputError, match="distance"):
        sign_step_mean_square(0.0, 0.5, 4, 0.1)
    with pytest.raises(InputError, match="momentum"):
        momentum_radius(BASE, 4, 1.0, momentum=1.0)
    with pytest.raises(InputError, match="at most 16"):
        momentum_radius([1.0] * 17, 4, 1.0)
    for setting in ({"rate": -1.0}, {"eps": -1.0}, {"beta1": 1.0}, {"beta2": 1.0}):
        with pytest.raises(InputError, match=next(iter(setting))):
            adam_steps(GRADIENTS, **({"rate": 0.1} | setting))
