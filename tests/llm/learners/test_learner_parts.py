"""Advantage, loss, importance weights, schedule and measures: pure functions, checked one by one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sharpen.llm.common.schedule import derive_seed, prompt_indices
from sharpen.llm.configs.optimizer import OptimizerSettings
from sharpen.llm.learners.measures import effective_alpha
from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.loss import importance_weights, kl_estimate, reinforce_loss

groups = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.floats(-1e6, 1e6, width=64)
)


@given(groups)
def test_leave_one_out_is_the_reward_minus_the_mean_of_the_others(rewards: np.ndarray) -> None:
    advantages = leave_one_out(torch.tensor(rewards)).numpy()
    for p, group in enumerate(rewards):
        for g, reward in enumerate(group):
            assert advantages[p, g] == pytest.approx(reward - np.delete(group, g).mean(), abs=1e-8)


@given(groups, st.floats(-1e3, 1e3))
def test_leave_one_out_ignores_a_constant_shift(rewards: np.ndarray, shift: float) -> None:
    plain, shifted = leave_one_out(torch.tensor(rewards)), leave_one_out(torch.tensor(rewards + shift))
    torch.testing.assert_close(plain, shifted, rtol=0, atol=1e-6)


def test_leave_one_out_needs_a_group() -> None:
    with pytest.raises(ValueError, match="samples per prompt: got 1"):
        leave_one_out(torch.zeros(3, 1))


def test_loss_adds_up_over_microbatches_and_ignores_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    mask = torch.arange(5)[None, :] < torch.tensor([1, 5, 2, 3, 4, 5])[:, None]
    advantages = torch.randn(6, generator=generator, dtype=torch.float64)
    weights = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    expected = -sum(
        float(weights[b, t] * advantages[b] * logprobs[b, t]) for b in range(6) for t in range(5) if mask[b, t]
    )
    whole = reinforce_loss(logprobs.masked_fill(~mask, torch.inf), advantages, weights, mask, normalizer=20)
    parts = [reinforce_loss(logprobs[i], advantages[i], weights[i], mask[i], 20) for i in (slice(0, 2), slice(2, 6))]
    assert float(whole) == pytest.approx(expected / 20)
    assert float(sum(parts)) == pytest.approx(expected / 20)


def test_importance_weights_are_the_capped_ratio() -> None:
    trainer = torch.tensor([[-1.0, -2.0, 5.0]])
    sampler = torch.tensor([[-1.5, -7.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    found = importance_weights(trainer, sampler, mask, cap=20.0)
    torch.testing.assert_close(found.weights_BT, torch.tensor([[np.exp(0.5), 20.0, 1.0]], dtype=torch.float32))
    assert (found.max_error, found.error_sum, found.kl_sum, found.max_ratio) == (
        5.0,
        5.5,
        -5.5,
        pytest.approx(np.exp(5)),
    )
    assert (found.capped, found.units, found.tokens) == (1, 2, 2)


def test_a_sequence_has_one_importance_weight_and_none_is_one() -> None:
    trainer, sampler = torch.tensor([[-1.0, -2.0, 9.0], [0.0, 0.0, 0.0]]), torch.tensor([[-1.5, -2.3, 0.0], [-4.0] * 3])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    found = importance_weights(trainer, sampler, mask, cap=20.0, level="sequence")
    torch.testing.assert_close(found.weights_BT, torch.tensor([[np.exp(0.8)] * 2 + [1.0], [20.0] * 3]).float())
    assert (found.capped, found.units, found.tokens) == (1, 2, 5)
    torch.testing.assert_close(found.difference_B, torch.tensor([0.8, 12.0]))
    plain = importance_weights(trainer, sampler, mask, cap=20.0, level="none")
    assert torch.equal(plain.weights_BT, torch.ones(2, 3))
    assert plain.capped == 0


def test_k3_of_two_policies_that_are_close_keeps_its_digits() -> None:
    """x^2/2 - x^3/6, below what float32 keeps of exp(-x) - 1 + x."""
    x = torch.tensor([1e-3, -1e-3, 2e-4, -1e-4])
    expected = x.double() ** 2 / 2 - x.double() ** 3 / 6
    torch.testing.assert_close(kl_estimate("k3", x).double(), expected, rtol=0.02, atol=0.0)


@given(st.integers(1, 50), st.integers(1, 70), st.integers(0, 2**31 - 1))
def test_every_prompt_comes_once_an_epoch(prompts: int, per_step: int, seed: int) -> None:
    steps = [prompt_indices(prompts, per_step, step, seed) for step in range(2 + 2 * prompts // per_step)]
    flat = [index for step in steps for index in step]
    assert {len(step) for step in steps} == {per_step}
    assert sorted(flat[:prompts]) == sorted(flat[prompts : 2 * prompts]) == list(range(prompts))


def test_seeds_differ_by_purpose_step_and_seed() -> None:
    found = {derive_seed(seed, purpose, step) for seed in range(10) for purpose in range(2) for step in range(500)}
    assert len(found) > 10 * 2 * 500 - 5  # 31 bits: a chance collision or two may occur
    assert all(0 <= seed < 2**31 for seed in found)


@given(st.floats(-3, 3), st.integers(0, 1000))
def test_effective_alpha_is_the_pooled_within_prompt_slope(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_p, noise, level = rng.normal(size=(5, 8)), 0.1 * rng.normal(size=(5, 8)), 50 * rng.normal(size=(5, 1))
    log_pi = alpha * log_p + noise + level
    got = effective_alpha(torch.tensor(log_pi), torch.tensor(log_p))
    within = [(x - x.mean(axis=1, keepdims=True)).ravel() for x in (log_p, log_pi)]
    slope, *_ = scipy.stats.linregress(*within)
    assert got is not None
    assert got.slope == pytest.approx(slope, abs=1e-9)
    assert got.low is not None
    assert got.high is not None
    assert got.low < got.slope < got.high


def test_the_interval_of_effective_alpha_is_that_of_clustered_errors() -> None:
    """The sandwich of the regression with a dummy for each prompt, prompts as clusters (CR1), and Student's t."""
    rng, prompts, samples = np.random.default_rng(3), 4, 5
    log_p, log_pi = rng.normal(size=(2, prompts, samples))
    dummies = np.kron(np.eye(prompts), np.ones((samples, 1)))
    design = np.column_stack([log_p.ravel(), dummies]).reshape(prompts, samples, -1)
    bread = np.linalg.inv(np.einsum("psi,psj->ij", design, design))
    fitted = bread @ np.einsum("psi,ps->i", design, log_pi)
    scores = np.einsum("psi,ps->pi", design, log_pi - design @ fitted)
    variance = prompts / (prompts - 1) * bread @ scores.T @ scores @ bread
    half = scipy.stats.t(prompts - 1).ppf(0.975) * np.sqrt(variance[0, 0])
    found = effective_alpha(torch.tensor(log_pi), torch.tensor(log_p))
    assert found == pytest.approx((fitted[0], fitted[0] - half, fitted[0] + half), rel=1e-9)


def test_the_interval_of_effective_alpha_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):  # errors that samples of one prompt share through their log p: clusters matter
        log_p, tilt = rng.normal(size=(24, 6)), 0.3 * rng.normal(size=(24, 1))
        found = effective_alpha(
            torch.tensor((1.5 + tilt) * log_p + 0.1 * rng.normal(size=(24, 6))), torch.tensor(log_p)
        )
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.5 <= found.high
    low, high = scipy.stats.binomtest(hits, 400).proportion_ci(0.9999)
    assert low < 0.95 < high + 0.03, hits / 400  # cluster-robust errors are a little small with few clusters


def test_effective_alpha_at_fixed_length_compares_samples_of_one_length_only() -> None:
    rng = np.random.default_rng(1)
    log_p, length = rng.normal(size=(6, 12)), rng.integers(1, 4, size=(6, 12))
    log_pi = 2.0 * log_p + 7.0 * length
    found = effective_alpha(torch.tensor(log_pi), torch.tensor(log_p), torch.tensor(length))
    free = effective_alpha(torch.tensor(log_pi), torch.tensor(log_p))
    assert found is not None
    assert free is not None
    assert found.slope == pytest.approx(2.0, abs=1e-9)
    assert abs(free.slope - 2.0) > 0.01
    alone = effective_alpha(torch.tensor(log_pi[:, :2]), torch.tensor(log_p[:, :2]), torch.tensor([[1, 2]] * 6))
    assert alone is None


@pytest.mark.parametrize("rounded", [0.0, 1e-6, -2e-6])
def test_the_interval_of_effective_alpha_counts_no_prompt_whose_samples_differ_by_rounding(rounded: float) -> None:
    log_p = torch.tensor([[-3.0, -5.0], [-8.0, -8.0 + rounded]])
    found = effective_alpha(2 * log_p, log_p)
    assert found is not None
    assert found.slope == pytest.approx(2.0)
    assert (found.low, found.high) == (None, None)


def test_effective_alpha_of_equally_likely_samples_is_unknown() -> None:
    assert effective_alpha(torch.randn(2, 3), torch.tensor([[-1.0] * 3, [-2.0] * 3])) is None


def test_learning_rate_schedule_is_the_papers() -> None:
    settings = OptimizerSettings()
    assert settings.learning_rate_at(0) == pytest.approx(1e-7)
    assert settings.learning_rate_at(25) == pytest.approx(5.5e-7)
    assert settings.learning_rate_at(50) == settings.learning_rate_at(499) == pytest.approx(1e-6)
    assert OptimizerSettings(warmup_steps=0).learning_rate_at(0) == pytest.approx(1e-6)
