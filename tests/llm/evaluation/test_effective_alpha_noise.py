"""Effective alpha where log p is scored with noise: simulated with the slope known, and with bfloat16 as the noise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from sharpen.llm.distributed.world import World
from sharpen.llm.evaluation.effective import SAMPLES, _slopes, measure
from sharpen.llm.learners.measures import effective_alpha, reliability
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.tasks.templates import encode

P, G = 64, 16
ALPHA, SPREAD, NOISE = 1.74, 5.0, 2.0  # nats within a prompt
KEPT = SPREAD**2 / (SPREAD**2 + NOISE**2)  # errors in variables (Fuller 1987, section 1.1)


def scored(seed: int, noise: float = NOISE, again: float = NOISE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log pi and two scorings of log p."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(size=(P, G)) * SPREAD + 40 * rng.normal(size=(P, 1))
    log_pi = ALPHA * log_p + rng.normal(size=(P, G)) + 30 * rng.normal(size=(P, 1))
    first, second = (log_p + size * rng.normal(size=(P, G)) for size in (noise, again))
    return tuple(torch.tensor(values) for values in (log_pi, first, second))  # type: ignore[return-value]


def test_noise_shrinks_the_slope_by_the_reliability_and_a_second_scoring_gives_it_back() -> None:
    plain, corrected, told, covered = [], [], [], 0
    for seed in range(200):
        log_pi, first, second = scored(seed)
        for found, again in ((plain, None), (corrected, second)):
            slope = effective_alpha(log_pi, first, again_PG=again)
            assert slope is not None
            found.append(slope.slope)
        assert slope.low is not None
        assert slope.high is not None
        covered += slope.low <= ALPHA <= slope.high
        told.append(reliability(first, first - second))
    for found, truth in ((plain, ALPHA * KEPT), (corrected, ALPHA), (told, KEPT)):
        error = scipy.stats.sem(found)
        assert abs(np.mean(found) - truth) < 4 * error + 1e-3
        assert error < 0.005
    low, high = scipy.stats.binomtest(covered, 200).proportion_ci(0.9999)
    assert low < 0.95 < high + 0.03, covered / 200


def test_the_two_scorings_may_be_noisy_to_different_degrees() -> None:
    slopes = [effective_alpha(*scored(seed, 1.0, 4.0)[:2], again_PG=scored(seed, 1.0, 4.0)[2]) for seed in range(100)]
    found = [slope.slope for slope in slopes if slope is not None]
    assert abs(np.mean(found) - ALPHA) < 4 * scipy.stats.sem(found) + 1e-3


def test_a_policy_that_is_the_base_keeps_slope_one_under_noise_that_both_share() -> None:
    """Scored by the same program at the same weights: the errors are the same numbers, and nothing is to correct."""
    _, first, second = scored(0)
    found = effective_alpha(first, first, again_PG=second)
    assert found is not None
    assert found.slope == pytest.approx(1.0, abs=1e-12)


def test_equal_scorings_change_nothing() -> None:
    log_pi, first, _ = scored(1)
    assert effective_alpha(log_pi, first, again_PG=first) == effective_alpha(log_pi, first)
    assert reliability(first, torch.zeros_like(first)) == 1.0
    assert reliability(torch.zeros(2, 2), torch.ones(2, 2)) is None
    assert reliability(torch.tensor([[1e-3, 0.0]]), torch.tensor([[9.0, 0.0]])) == 0.0  # nothing but noise


def test_what_is_told_of_each_side_by_its_formula() -> None:
    """On the base's samples the engine has scored the base again, on the policy's the policy."""
    assert SAMPLES == G
    pi, p, engine = (np.array(values) for values in scored(2))
    y, x, z = (values - values.mean(axis=1, keepdims=True) for values in (pi, p, engine))
    rows = list(zip(pi.ravel(), p.ravel(), [7] * pi.size, engine.ravel(), strict=True))
    found = {name: _slopes(rows, of_base=name == "base") for name in ("base", "policy")}
    for name, scored_twice in (("base", x), ("policy", y)):
        assert found[name]["slope"] == pytest.approx((x * y).sum() / (x * x).sum())
        assert found[name]["fixed_length"] == pytest.approx({end: found[name][end] for end in ("slope", "low", "high")})
        share = 1 - ((scored_twice - z) ** 2).sum() / (x * x).sum() / 2
        assert found[name]["reliability"] == pytest.approx(max(0.0, share))
    assert found["base"]["corrected"]["slope"] == pytest.approx((z * y).sum() / (z * x).sum())
    assert 0 < found["policy"]["reliability"] < found["base"]["reliability"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_states_how_much_of_the_spread_is_rounding(dtype: str) -> None:
    """The engine in float32 and the trainer in ``dtype``: the reliability is that of scorings made here apart."""
    source = resolve("embedded")
    sampler = load_model(source, "cpu", "float32").eval()
    base, policy = (load_model(source, "cpu", dtype).eval() for _ in range(2))
    engine = make_engine("transformers", model=sampler, location=source.location, max_length=80, seed=0)
    engine.push_weights = lambda model: None  # type: ignore[method-assign]
    tokenizer = load_tokenizer(source)
    prompts = [encode(tokenizer, f"{a}+{b}+{a + b}=?", source.template) for a, b in ((12, 31), (45, 20), (33, 18))]
    found = measure(engine, policy, base, prompts, Sampling(40), 3, micro_batch_tokens=1000, world=World())
    for name in ("policy", "base"):
        assert found[name]["slope"] == pytest.approx(1.0, abs=1e-6)  # the same noise in both
        lost = 1.0 - found[name]["reliability"]
        assert 0.0 <= lost < 1e-9 if dtype == "float32" else 1e-7 < lost < 0.1
    assert found["base"]["corrected"]["slope"] == pytest.approx(1.0, abs=1e-6)
    assert found["base"]["corrected"]["low"] <= 1.0 + 1e-6
    assert "corrected" not in found["policy"]
