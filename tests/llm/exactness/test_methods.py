"""Cuts by entropy, particles and pools: exact transition matrices, unbiased Z, and the test of exactness itself."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.exactness.restricted import Restricted
from sharpen.llm.exactness.run import draw
from sharpen.llm.samplers import Extend, Key, Path, run
from sharpen.llm.samplers.kernel import FLAT, kept_at_rise, log_acceptance
from sharpen.llm.sampling import method
from sharpen.objective import InputError
from sharpen.theory.exactness.goodness import Goodness, compare, draws_needed

PROMPT, EOS, LONGEST = (3, 4), 1, 4
Tokens = tuple[int, ...]


def law_by_chance(seed: int) -> Restricted:
    """Return a law of two tokens and an end, with responses of every length and entropies that rise and fall."""
    rng, table = np.random.default_rng(seed), {}
    for prefix in (prefix for length in range(LONGEST) for prefix in itertools.product((0, 2), repeat=length)):
        table[prefix] = np.log(rng.dirichlet(rng.choice([0.5, 5.0]) * np.array([3.0, 2.0, 3.0])))
    return Restricted(PROMPT, (0, 1, 2), frozenset({EOS}), LONGEST, table)


CHANCE = law_by_chance(2)


def target(model: Restricted, alpha: float) -> dict[Tokens, float]:
    weights = {tokens: math.exp(alpha * logprob) for tokens, logprob in model.law().items()}
    return {tokens: weight / sum(weights.values()) for tokens, weight in weights.items()}


def row(model: Restricted, prefix: Tokens, alpha: float) -> dict[int, float]:
    weight = np.exp(alpha * model.table[prefix])
    return dict(zip(model.allowed, (weight / weight.sum()).tolist(), strict=True))


def entropy(model: Restricted, prefix: Tokens) -> float:
    p = np.exp(model.table[prefix])
    return float(-(p * np.log(p)).sum())


def path(model: Restricted, tokens: Tokens, alpha: float) -> Path:
    prefixes = [tokens[:place] for place in range(len(tokens))]
    base = tuple(math.log(row(model, prefix, 1.0)[token]) for prefix, token in zip(prefixes, tokens, strict=True))
    proposal = tuple(math.log(row(model, prefix, alpha)[token]) for prefix, token in zip(prefixes, tokens, strict=True))
    entropies = tuple(entropy(model, prefix) for prefix in prefixes)
    return Path(tokens, base, proposal, tokens[-1] == EOS, entropies)


def step(model: Restricted, alpha: float, cut: str) -> np.ndarray:
    """Return the transition matrix of a step that cuts where entropy rises and accepts by the ratio of ``cut``."""
    responses = list(model.law())
    paths = {tokens: path(model, tokens, alpha) for tokens in responses}
    matrix = np.zeros((len(responses), len(responses)))
    for i, x in enumerate(responses):
        entropies = [0.0, *(entropy(model, x[:place]) for place in range(len(x)))]
        weights = [max(0.0, now - last) + FLAT for last, now in itertools.pairwise(entropies)]
        for kept, weight in enumerate(weights):
            for j, y in enumerate(responses):
                if y[:kept] == x[:kept] and len(y) > kept:
                    drawn = math.exp(sum(paths[y].proposal[kept:])) * weight / sum(weights)
                    ratio = log_acceptance(paths[x], paths[y], kept, alpha, cut)
                    matrix[i, j] += drawn * min(1.0, math.exp(ratio))
    matrix[np.diag_indices(len(responses))] += 1 - matrix.sum(axis=1)
    return matrix


@pytest.mark.parametrize("alpha", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("seed", [2, 3])
def test_cuts_by_entropy_leave_p_alpha_as_it_is(alpha: float, seed: int) -> None:
    model = law_by_chance(seed)
    law = np.array(list(target(model, alpha).values()))
    assert np.abs(law @ step(model, alpha, "entropy") - law).max() < 1e-12
    assert np.abs(law @ step(model, alpha, "uniform") - law).max() > 1e-4  # the ratio of other cuts does not


def test_cuts_are_drawn_by_how_much_the_entropy_rises() -> None:
    response = Path((0, 2, 0), (-1.0,) * 3, (-1.0,) * 3, entropy=(0.4, 0.2, 1.1))
    weights = np.array([0.4 + FLAT, FLAT, 0.9 + FLAT])
    kept = [kept_at_rise(response, (place + 0.5) / 3000) for place in range(3000)]
    assert np.bincount(kept, minlength=3) / 3000 == pytest.approx(weights / weights.sum(), abs=1e-3)


def fit(**settings: Any) -> Goodness:
    config = SampleConfig.model_validate({"alpha": 2.0, "seed": 1, **settings})
    law = np.array(list(target(CHANCE, config.alpha).values()))
    draws = draws_needed(law, 0.15, power_wanted=0.99, false_alarm=1e-3)
    drawn = draw(config, CHANCE, draws)
    return compare([drawn.counts[tokens] for tokens in CHANCE.law()], law, 1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "power", "cut": "entropy", "steps": 15},
        {"method": "power", "cut": "entropy", "steps": 15, "chunk": 1},
        {"method": "power-smc", "particles": 4, "grow": 1, "populations": 6},
        {"method": "power-smc", "particles": 32, "grow": 1},
        {"method": "reweighted", "pool": 128},
    ],
    ids=["entropy", "entropy in chunks", "chain of populations", "one large population", "large pool"],
)
def test_what_is_exact_or_nearly_so_passes(settings: dict[str, Any]) -> None:
    assert fit(**settings).exact


@pytest.mark.parametrize(
    "settings",
    [{"method": "power-smc", "particles": 1}, {"method": "reweighted", "pool": 2}],
    ids=lambda s: s["method"],
)
def test_too_few_particles_are_found(settings: dict[str, Any]) -> None:
    assert fit(**settings).p_value < 1e-6


@pytest.mark.parametrize(
    "settings",
    [{"method": "power-smc", "particles": 3, "grow": 1, "populations": 2}, {"method": "reweighted", "pool": 4}],
    ids=lambda s: s["method"],
)
def test_z_is_estimated_without_bias(settings: dict[str, Any]) -> None:
    config = SampleConfig.model_validate({"alpha": 2.0, **settings})
    samples = run([method(config, PROMPT, LONGEST, Key(1, place, 0), CHANCE) for place in range(1500)], CHANCE)
    found = np.exp([sample.log_z for sample in samples if sample.log_z is not None])
    total = sum(math.exp(2.0 * logprob) for logprob in CHANCE.law().values())
    assert found.size == 1500
    assert abs(found.mean() - total) < 4 * found.std() / math.sqrt(1500)
    assert found.std() > 0.01 * total
    assert all(1 <= (sample.effective or 0) <= 4 + 1e-9 for sample in samples)


def test_responses_to_a_prompt_share_their_pool_and_the_first_pays() -> None:
    asked: list[Extend] = []

    class Counting(Restricted):
        def extend(self, requests: Any) -> list[Path]:
            asked.extend(requests)
            return super().extend(requests)

    model = Counting(PROMPT, (0, 1, 2), frozenset({EOS}), LONGEST, CHANCE.table)
    config = SampleConfig.model_validate({"method": "reweighted", "alpha": 2.0, "pool": 20})
    samples = run([method(config, PROMPT, LONGEST, Key(1, 0, chain), model) for chain in range(12)], model)
    assert len(asked) == 20
    assert [sample.generated > 0 for sample in samples] == [True] + [False] * 11
    assert len({sample.log_z for sample in samples}) == 1
    assert len({sample.path.tokens for sample in samples}) > 1


def test_an_empty_pool_is_refused() -> None:
    from sharpen.llm.samplers.particles import reweighted

    with pytest.raises(InputError, match="pool: got 0"):
        run([reweighted(PROMPT, LONGEST, Key(1, 0, 0), alpha=2.0, pool=0)], CHANCE)
