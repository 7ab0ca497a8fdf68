"""Lengths, entropies, rewards and divergences of sequence models, and the closed forms of independent tokens."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sharpen.objective import InputError
from sharpen.theory.core.problem import DEFAULT_PROBLEM
from sharpen.theory.sequences import (
    IidModel,
    LengthCurve,
    MarkovModel,
    Reward,
    Spectrum,
    critical_alpha,
    cross_log_prob,
    entropy,
    expected_reward,
    gap,
    kl,
    length_pmf,
    length_variance,
    mean_length,
    power,
    temperature,
)

FIVE = [0.4, 0.3, 0.15, 0.1, 0.05]


@st.composite
def models(draw: st.DrawFn) -> MarkovModel:
    """Models that stop with probability >= 0.3 at each step, so that 60 tokens hold all but 1e-9 of the mass."""
    n = draw(st.integers(1, 4))
    weight = st.one_of(st.just(0.0), st.floats(0.05, 1.0))
    rows = np.array([draw(st.lists(weight, min_size=n + 1, max_size=n + 1)) for _ in range(n)])
    rows[:, -1] += 0.5 * rows[:, :-1].sum(axis=1) + 0.1
    rows /= rows.sum(axis=1, keepdims=True)
    return MarkovModel(rows[:, :-1], rows[:, -1], draw(st.integers(0, n - 1)))


def moments(model: MarkovModel) -> tuple[float, float]:
    """Mean and variance from powers of the dense matrix."""
    a, state, total, square = model.transition.toarray(), model.start, 0.0, 0.0
    for t in range(120):
        p = float(state @ model.stop)
        total, square = total + t * p, square + t * t * p
        state = state @ a
    return total, square - total**2


@settings(max_examples=80, deadline=None)
@given(models())
def test_length_law(model: MarkovModel) -> None:
    mean, variance = moments(model)
    assert mean_length(model) == pytest.approx(mean, abs=1e-9)
    assert length_variance(model) == pytest.approx(variance, abs=1e-8)
    pmf = length_pmf(model, 120)
    assert pmf.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.arange(121) @ pmf == pytest.approx(mean, abs=1e-9)


def every_sequence(p: MarkovModel, q: MarkovModel, tokens: int) -> list[tuple[float, float, tuple[int, ...]]]:
    """(p(x), q(x), states with the start) of every sequence of so many tokens or fewer."""
    a, b = p.transition.toarray(), q.transition.toarray()
    found, prefixes = [], [((p.start_state,), 1.0, 1.0)]
    for _ in range(tokens + 1):
        after = []
        for walk, x, y in prefixes:
            s = walk[-1]
            if p.stop[s] > 0:
                found.append((x * p.stop[s], y * q.stop[s], walk))
            after += [((*walk, int(t)), x * a[s, t], y * b[s, t]) for t in np.flatnonzero(a[s])]
        prefixes = after
    return found


def layered(rng: np.random.Generator, full: bool = True) -> MarkovModel:
    """Three layers of three states and no way back: finitely many sequences, 1 + 3 + 9 + 27 of them."""
    a, e = np.zeros((10, 10)), rng.random(10)
    for layer in range(3):
        here = [0] if layer == 0 else range(3 * layer - 2, 3 * layer + 1)
        for s in here:
            a[s, 3 * layer + 1 : 3 * layer + 4] = rng.random(3)
            if not full:
                a[s, 3 * layer + 1] = 0.0
    total = a.sum(axis=1) + e
    return MarkovModel(a / total[:, None], e / total)


@pytest.mark.parametrize("seed", range(5))
def test_divergences_entropies_and_rewards_by_full_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = layered(rng), layered(rng)
    table = every_sequence(p, q, 3)
    assert sum(x for x, _, _ in table) == pytest.approx(1.0)
    assert kl(p, q) == pytest.approx(sum(x * math.log(x / y) for x, y, _ in table), rel=1e-10)
    assert entropy(p) == pytest.approx(-sum(x * math.log(x) for x, _, _ in table), rel=1e-10)
    assert cross_log_prob(p, q) == pytest.approx(sum(x * math.log(y) for x, y, _ in table), rel=1e-10)
    assert kl(p, p) == 0.0
    final, arrival, step = rng.random(10), rng.random(10), rng.random((10, 10))
    expected = sum(x * (final[w[-1]] + sum(arrival[list(w[1:])])) for x, _, w in table)
    assert expected_reward(p, Reward(final, arrival)) == pytest.approx(expected, rel=1e-10)
    expected = sum(x * sum(step[s, t] for s, t in itertools.pairwise(w)) for x, _, w in table)
    assert expected_reward(p, Reward(step=step)) == pytest.approx(expected, rel=1e-10)
    assert expected_reward(p, Reward(step=sparse.csr_array(step))) == pytest.approx(expected, rel=1e-10)
    ending = sum(x for x, _, w in table if w[-1] in (2, 5))
    assert expected_reward(p, Reward.ending_in([2, 5], 10)) == pytest.approx(ending, rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0, 6.0])
def test_the_gap_by_full_enumeration(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    model, reward = layered(rng), Reward.ending_in([1, 5, 9], 10)
    cool = temperature(model, alpha)
    table = every_sequence(model, cool, 3)
    p, t = np.array([x for x, _, _ in table]), np.array([y for _, y, _ in table])
    paid = np.array([w[-1] in (1, 5, 9) for _, _, w in table])
    sharp = p**alpha / np.sum(p**alpha)
    found = gap(model, alpha, reward)
    assert found.kl_power_temperature == pytest.approx(float(sharp @ np.log(sharp / t)), rel=1e-9, abs=1e-12)
    assert found.kl_temperature_power == pytest.approx(float(t @ np.log(t / sharp)), rel=1e-9, abs=1e-12)
    assert found.reward_gap == pytest.approx(float(sharp @ paid - t @ paid), abs=1e-12)
    assert found.base.expected_reward == pytest.approx(float(p @ paid))
    assert found.power.log_prob == pytest.approx(float(sharp @ np.log(p)))
    # The Gibbs identity: log Z = alpha E[log p] + H at the optimum of that sum.
    log_z = power(model, alpha).log_partition[0]
    assert alpha * found.power.log_prob + found.power.entropy == pytest.approx(log_z)
    assert found.temperature is not None
    assert alpha * found.temperature.log_prob + found.temperature.entropy <= log_z + 1e-12


def test_the_divergence_of_start_laws_is_a_part() -> None:
    transition, stop = [[0.3, 0.4], [0.2, 0.2]], [0.3, 0.6]
    first, second = (MarkovModel(transition, stop, start) for start in ([0.5, 0.5], [0.2, 0.8]))
    assert kl(first, second) == pytest.approx(0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8), rel=1e-12)
    assert kl(first, first) == 0.0


def test_divergence_is_infinite_where_the_other_cannot_follow() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = layered(rng), layered(rng, full=False)
    assert kl(wide, narrow) == math.inf
    assert 0.0 < kl(narrow, wide) < math.inf
    # What no sequence visits does not count.
    p = MarkovModel([[0.0, 0.0], [0.5, 0.0]], [1.0, 0.5])
    q = MarkovModel([[0.5, 0.0], [0.0, 0.0]], [0.5, 1.0])
    assert kl(p, q) == pytest.approx(math.log(2.0))


def test_monte_carlo_within_its_error() -> None:
    model = power(IidModel(FIVE, 0.2).markov(), 1.2).policy
    rng, samples = np.random.default_rng(7), 20_000
    rows = np.column_stack([model.transition.toarray(), model.stop]).cumsum(axis=1)
    lengths = np.zeros(samples)
    for i in range(samples):
        state = 0
        while (state := int(np.searchsorted(rows[state], rng.random() * rows[state, -1], side="right"))) < model.n:
            lengths[i] += 1
    error = math.sqrt(length_variance(model) / samples)
    assert abs(lengths.mean() - mean_length(model)) < 5 * error  # five standard errors: one seed in 10^6 fails


def test_a_model_that_may_never_stop_has_no_finite_mean() -> None:
    model = MarkovModel([[0.0, 0.5], [0.0, 1.0]], [0.5, 0.0])
    assert mean_length(model) == length_variance(model) == math.inf
    with pytest.raises(InputError, match="never stop"):
        entropy(model)
    assert length_pmf(model, 5).tolist() == [0.5, 0, 0, 0, 0, 0]
    found = gap(model, 2.0)
    assert found.temperature is None
    assert (found.reward_gap, found.kl_temperature_power) == (None, math.inf)
    assert found.base.mean_length == 0.0


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda m: expected_reward(m, Reward([1.0])), "reward final"),
        (lambda m: expected_reward(m, Reward(step=[1.0])), "reward step"),
        (lambda m: Reward.ending_in([9], m.n), "reward states"),
        (lambda m: Reward.ending_in([], m.n), "reward states"),
        (lambda m: length_pmf(m, -1), "longest"),
        (lambda m: kl(m, IidModel([1.0], 0.5).markov()), "model"),
    ],
)
def test_bad_input_is_named(call, field: str) -> None:
    with pytest.raises(InputError, match=field):
        call(IidModel(FIVE, 0.1).markov())


# Independent tokens


def test_the_knife_edge() -> None:
    model = IidModel(FIVE, 0.05)
    assert model.mean_length(1.0) == pytest.approx(19.0, rel=1e-12)
    rho = 0.95**1.25 * sum(q**1.25 for q in FIVE)
    assert model.continuation_ratio(1.25) == pytest.approx(rho, rel=1e-14)
    assert model.mean_length(1.25) == pytest.approx(rho / (1 - rho), rel=1e-12)
    assert model.mean_length(1.25) == pytest.approx(2.02, abs=0.005)
    assert not model.normalisable(0.95)
    assert model.mean_length(0.95) == model.std_length(0.95) == math.inf
    # The five tokens of the default problem: 19 tokens become 1.9.
    assert IidModel(DEFAULT_PROBLEM.base, 0.05).mean_length(1.25) == pytest.approx(1.9, abs=0.05)
    assert not IidModel(DEFAULT_PROBLEM.base, 0.05).normalisable(0.95)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5), st.floats(0.02, 0.95), st.sampled_from([0.9, 1.0, 1.7, 5.0])
)
def test_closed_forms_are_those_of_the_markov_model(weights: list[float], hazard: float, alpha: float) -> None:
    model = IidModel(np.array(weights) / sum(weights), hazard)
    chain = model.markov()
    spectrum = Spectrum(chain)
    assert spectrum.bracket(alpha).middle == pytest.approx(model.log_continuation(alpha), abs=1e-11)
    assert critical_alpha(spectrum) == pytest.approx(model.critical_alpha, abs=1e-9)
    closed, solved = LengthCurve(model).point(alpha), LengthCurve(chain).point(alpha)
    assert closed.normalisable == solved.normalisable
    assert solved.mean == pytest.approx(closed.mean, rel=1e-6)
    assert solved.std == pytest.approx(closed.std, rel=1e-6)
    assert solved.temperature_mean == pytest.approx(closed.temperature_mean, rel=1e-8)


@pytest.mark.parametrize("hazard", [0.01, 0.05, 0.5])
def test_slope_and_critical_alpha(hazard: float) -> None:
    model, h = IidModel(FIVE, hazard), 1e-6
    difference = (model.log_continuation(1 + h) - model.log_continuation(1 - h)) / (2 * h)
    assert model.slope == pytest.approx(difference, abs=1e-8)
    q = np.array(FIVE)
    assert model.slope == pytest.approx(math.log(1 - hazard) + float(q @ np.log(q)))
    assert model.critical_alpha is not None
    assert (1 - hazard) ** model.critical_alpha * np.sum(q**model.critical_alpha) == pytest.approx(1.0, abs=1e-12)


def test_edges_of_independent_tokens() -> None:
    assert IidModel([1.0], 0.5).critical_alpha == 0.0
    sure = IidModel(FIVE, 1.0)
    assert (sure.critical_alpha, sure.mean_length(0.0), sure.slope) == (None, 0.0, -math.inf)
    assert IidModel(FIVE, 1e-12).mean_length(1.0) == pytest.approx(1e12, rel=1e-3)
    assert IidModel(FIVE, 1e-3).temperature_mean_length(1000.0) == math.inf
    for tokens, hazard, field in (([0.5, 0.4], 0.1, "tokens"), (FIVE, 0.0, "hazard"), (FIVE, 1.1, "hazard")):
        with pytest.raises(InputError, match=field):
            IidModel(tokens, hazard)
    with pytest.raises(InputError, match="tokens"):
        IidModel(np.full(5000, 1 / 5000), 0.5).markov()


def test_curve_stays_above_the_critical_alpha() -> None:
    curve = LengthCurve(IidModel(FIVE, 0.05))
    points = curve.sample(2.0, 10)
    assert curve.critical_alpha is not None
    assert points[0].alpha > curve.critical_alpha
    assert points[-1].alpha == pytest.approx(2.0)
    assert points[0].alpha - curve.critical_alpha == pytest.approx(5e-4 * (2.0 - curve.critical_alpha))
    steps = np.diff([point.alpha for point in points])
    assert np.all(steps[1:] > 1.5 * steps[:-1])  # dense where the length rises
    assert all(point.normalisable for point in points)
    assert [point.mean for point in points] == sorted((point.mean for point in points), reverse=True)
    with pytest.raises(InputError, match="alphas"):
        curve.sample(0.9)
    assert LengthCurve(IidModel(FIVE, 1.0)).sample(2.0, 3)[0].alpha == 0.0
