"""Scalable power sampling: its theorem, the bias of its estimator by enumeration, and what it draws."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, hypergeom

from sharpen.llm.sampling import (
    SAMPLERS,
    Extend,
    Key,
    Likeliest,
    Next,
    Path,
    SampleConfig,
    Scalable,
    method,
    ratio_estimate,
    run,
    scalable,
    token_probabilities,
)

JOINT = np.array([[0.38, 0.02], [0.33, 0.27]])  # responses aa, ab, ba, bb
ALPHA = 4.0
FIRST, SECOND = JOINT.sum(axis=1), JOINT / JOINT.sum(axis=1, keepdims=True)
TARGET = (JOINT**ALPHA / (JOINT**ALPHA).sum()).sum(axis=1)  # P(first token) under p^alpha


class TwoSteps:
    """The toy as a model: tokens 0 and 1, two of them, no end-of-sequence token; token 2 never comes."""

    eos_ids = frozenset({5})

    def law(self, prefix: Sequence[int]) -> np.ndarray:
        return np.append(FIRST if len(prefix) == 1 else SECOND[prefix[1]], 0.0)

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        return [self._draw(request) for request in requests]

    def _draw(self, request: Extend) -> Path:
        rng, path = np.random.default_rng(request.seed), Path()
        for _ in range(request.limit):
            law = self.law(request.prefix + path.tokens)
            tempered = law ** (1 / request.temperature) / (law ** (1 / request.temperature)).sum()
            token = int(rng.choice(3, p=tempered))
            path = path + Path((token,), (math.log(law[token]),), (math.log(tempered[token]),))
        return path

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        found = []
        for request in requests:
            law = self.law(request.prefix)
            order = np.argsort(-law)[: request.top]
            with np.errstate(divide="ignore"):
                found.append(Likeliest(order, np.log(law[order])))
        return found


def expectation(rollouts: int, alpha: float, *, jackknife: bool) -> np.ndarray:
    """E of the estimate of P(first token), exactly.

    Each candidate's rollouts are a binomial number of each future. The jackknife leaves out whole columns, so it also
    matters how many columns have the first future for both candidates: a hypergeometric number.
    """
    total = np.zeros(2)
    for first, second in itertools.product(range(rollouts + 1), repeat=2):
        chance = binom.pmf(first, rollouts, SECOND[0, 0]) * binom.pmf(second, rollouts, SECOND[1, 0])
        if chance < 1e-15:
            continue
        overlaps = np.arange(max(0, first + second - rollouts), min(first, second) + 1)
        for both, share in zip(overlaps, hypergeom.pmf(overlaps, rollouts, first, second), strict=True):
            log_weight = np.log(SECOND[:, [1]].repeat(rollouts, axis=1))
            log_weight[0, :first] = np.log(SECOND[0, 0])
            log_weight[1, first - both : first - both + second] = np.log(SECOND[1, 0])
            estimate = ratio_estimate(alpha * np.log(FIRST), (alpha - 1) * log_weight, jackknife=jackknife)
            total += chance * share * estimate
            if not jackknife:  # which does not see the columns
                total += chance * (1 - share) * estimate
                break
    return total


def test_low_temperature_reweighted_by_zeta_is_the_power() -> None:
    zeta = (SECOND**ALPHA).sum(axis=1)
    np.testing.assert_allclose(zeta, (SECOND * SECOND ** (ALPHA - 1)).sum(axis=1), atol=1e-15)  # as an expectation
    # Rollouts in their exact proportions give the exact zeta, whatever their order.
    log_weight = (ALPHA - 1) * np.log([[0.95] * 19 + [0.05], [0.55] * 11 + [0.45] * 9])
    law = token_probabilities(ALPHA * np.log(FIRST), log_weight, jackknife=False)
    np.testing.assert_allclose(law, TARGET, atol=1e-12)
    np.testing.assert_allclose(law, FIRST**ALPHA * zeta / (FIRST**ALPHA * zeta).sum(), atol=1e-12)
    # The published toy: .55, 0, .31, .14, from first tokens times seconds.
    joint = TARGET[:, None] * SECOND**ALPHA / zeta[:, None]
    np.testing.assert_allclose(joint.ravel(), [0.55, 0, 0.31, 0.14], atol=5e-3)
    low = FIRST**ALPHA / (FIRST**ALPHA).sum()
    assert low[0] < 0.17 < 0.54 < TARGET[0]  # low temperature picks the other token


def test_the_plain_bias_is_of_order_one_over_m_and_the_jackknifes_of_its_square() -> None:
    alpha, sizes = 2.0, np.array([6, 12, 24])  # at alpha 4 the leading term leads only with more rollouts
    truth = ((JOINT**alpha).sum(axis=1) / (JOINT**alpha).sum())[0]
    plain = np.array([expectation(m, alpha, jackknife=False)[0] - truth for m in sizes])
    corrected = np.array([expectation(m, alpha, jackknife=True)[0] - truth for m in sizes])
    slope = np.log(np.abs(plain[1:] / plain[:-1])) / np.log(sizes[1:] / sizes[:-1])
    steeper = np.log(np.abs(corrected[1:] / corrected[:-1])) / np.log(sizes[1:] / sizes[:-1])
    np.testing.assert_allclose(slope, -1, atol=0.1)
    np.testing.assert_allclose(steeper, -2, atol=0.3)
    assert np.all(np.abs(corrected) < np.abs(plain) / 5)
    # The leading term of the plain bias by the delta method: for r = x / (x + y), E r - r is
    # [-y var x + x var y] / (x + y)^3 with independent means x, y of M rollouts each.
    mean = FIRST**alpha * (SECOND**alpha).sum(axis=1)
    variance = FIRST ** (2 * alpha) * (SECOND ** (2 * alpha - 1)).sum(axis=1) - mean**2
    leading = (-mean[1] * variance[0] + mean[0] * variance[1]) / mean.sum() ** 3
    assert plain[-1] * sizes[-1] == pytest.approx(leading, rel=0.05)


def by_definition(log_power: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """The jackknife in the words of its definition."""
    rollouts = log_weight.shape[1]

    def ratio(columns: list[int]) -> np.ndarray:
        weight = np.exp(log_power) * np.exp(log_weight[:, columns]).mean(axis=1)
        return weight / weight.sum()

    everything = list(range(rollouts))
    left_out = [ratio([m for m in everything if m != gone]) for gone in everything]
    return rollouts * ratio(everything) - (rollouts - 1) * np.mean(left_out, axis=0)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), candidates=st.integers(1, 5), rollouts=st.integers(2, 6), shift=st.floats(-900, 900))
def test_the_estimate_is_the_jackknifes_and_does_not_see_constants(
    seed: int, candidates: int, rollouts: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    log_power, log_weight = -4 * rng.exponential(size=candidates), -3 * rng.exponential(size=(candidates, rollouts))
    estimate = ratio_estimate(log_power, log_weight, jackknife=True)
    np.testing.assert_allclose(estimate, by_definition(log_power, log_weight), atol=1e-9)
    assert estimate.sum() == pytest.approx(1)
    np.testing.assert_allclose(ratio_estimate(log_power + shift, log_weight, jackknife=True), estimate, atol=1e-6)
    law = token_probabilities(log_power, log_weight, jackknife=True)
    assert law.min() >= 0
    assert law.sum() == pytest.approx(1)


def test_one_rollout_that_holds_all_the_weight_leaves_a_distribution() -> None:
    log_weight = np.array([[0.0, -2000.0], [-2000.0, -2000.0]])
    for jackknife in (False, True):
        law = token_probabilities(np.zeros(2), log_weight, jackknife=jackknife)
        np.testing.assert_allclose(law, [1, 0], atol=1e-12)


def drawn(settings: Scalable, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    model = TwoSteps()
    samples = run([scalable((9,), 2, Key(seed, 0, chain), settings, model) for chain in range(count)], model)
    return [sample.path.tokens for sample in samples]


def test_what_is_drawn_is_the_power() -> None:
    """600 responses with 32 rollouts, whose remaining bias is far below what this can see; false alarms 1e-3."""
    counts = Counter(drawn(Scalable(ALPHA, candidates=3, rollouts=32), 600))
    law = (JOINT**ALPHA / (JOINT**ALPHA).sum()).ravel()
    pairs = [(0, 0), (1, 0), (1, 1)]
    expected = np.array([law[0], law[2], law[3]]) * 600
    assert sum(counts[pair] for pair in pairs) == 600  # ab has probability 2e-6
    assert chisquare([counts[pair] for pair in pairs], expected / expected.sum() * 600).pvalue > 1e-3


def test_no_lookahead_is_low_temperature_and_a_spent_budget_too() -> None:
    low = FIRST**ALPHA / (FIRST**ALPHA).sum()
    # One candidate's rollouts are cut at nothing: with the budget spent before the first token nothing is rolled out.
    model = TwoSteps()
    spent = Scalable(ALPHA, candidates=3, rollouts=4, budget=1)
    samples = run([scalable((9,), 2, Key(1, 0, chain), spent, model) for chain in range(400)], model)
    assert {sample.proposals for sample in samples} == {8}  # of the first token only
    assert all(sample.generated == 8 + 2 for sample in samples)
    second = [sample.path.tokens[1] for sample in samples if sample.path.tokens[0] == 1]
    tempered = SECOND[1] ** ALPHA / (SECOND[1] ** ALPHA).sum()
    share = float(np.mean([token == 0 for token in second]))
    assert abs(share - tempered[0]) < 4 * math.sqrt(tempered.prod() / len(second))
    assert low[0] < TARGET[0]


def test_rollouts_end_at_the_horizon_and_a_token_has_the_law_it_was_drawn_from() -> None:
    """Three tokens with a horizon of one: the last is low temperature's. Rollouts of 0 weigh 2^-3, those of 1 4^-3."""
    settings = Scalable(ALPHA, candidates=2, rollouts=2, horizon=1, jackknife=False)
    limits = []

    class Half(TwoSteps):
        """The same law of two tokens everywhere, and rollouts that are as likely as the candidate says."""

        def law(self, prefix: Sequence[int]) -> np.ndarray:
            return np.array([0.6, 0.4, 0.0])

        def extend(self, requests: Sequence[Extend]) -> list[Path]:
            limits.append([request.limit for request in requests])
            return [Path((0,), (math.log(0.5 ** (1 + request.prefix[-1])),), (0.0,)) for request in requests]

    model = Half()
    (sample,) = run([scalable((9,), 3, Key(0, 0, 0), settings, model)], model)
    assert limits == [[1] * 4] * 2
    path = sample.path
    ahead, alone = np.array([0.6, 0.4]) ** ALPHA * [0.5**3, 0.25**3], np.array([0.6, 0.4]) ** ALPHA
    expected = [law[token] / law.sum() for law, token in zip((ahead, ahead, alone), path.tokens, strict=True)]
    assert np.exp(path.proposal) == pytest.approx(expected)
    assert np.exp(path.base) == pytest.approx([(0.6, 0.4)[token] for token in path.tokens])


def test_a_response_is_the_same_alone_and_among_others() -> None:
    settings = Scalable(ALPHA, candidates=2, rollouts=3)
    together = drawn(settings, 30)
    assert drawn(settings, 3) == together[:3]
    assert drawn(settings, 30, seed=1) != together


def test_the_settings_choose_the_method() -> None:
    model, lengths = TwoSteps(), {}
    sizes = {"n": 3, "steps": 2, "rollouts": 2, "candidates": 2, "pool": 5, "populations": 7}
    for name in SAMPLERS.names():
        config = SampleConfig.model_validate({"method": name, **sizes})
        sample = run([method(config, (9,), 2, Key(0, 0, 0), model)], model)[0]
        lengths[name] = sample.proposals
        assert len(sample.path) == 2
    assert lengths == {"plain": 1, "low-temperature": 1, "best-of-n": 3, "power": 2, "scalable-power": 4} | {
        "power-smc": 6,
        "reweighted": 5,
    }
