"""The test of exactness against SciPy, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare, multinomial, norm

from sharpen.objective import InputError
from sharpen.theory.exactness.goodness import EXPECTED, classes, compare, draws_needed, power

LAW = np.random.default_rng(3).dirichlet(np.full(40, 0.5))


def deviating(law: np.ndarray, tv: float) -> np.ndarray:
    """Return the law at a total variation that is hardest to see: two halves of mass 1/2, tilted."""
    half = np.cumsum(law) <= 0.5
    mass = law[half].sum()
    return np.where(half, law * (1 + tv / mass), law * (1 - tv / (1 - mass)))


def test_the_statistic_is_scipys() -> None:
    rng = np.random.default_rng(0)
    law = np.array([0.3, 0.3, 0.2, 0.15, 0.05])
    counts = rng.multinomial(500, law)
    found, expected = compare(counts, law, 0.01), chisquare(counts, 500 * law)
    assert (found.chi_square, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.total_variation == pytest.approx(np.abs(counts / 500 - law).sum() / 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(20, 5000))
def test_classes_are_expected_often_enough_and_only_the_rest_is_merged(weights: list[float], draws: int) -> None:
    law = (np.array(weights) + 1e-6) / (np.array(weights) + 1e-6).sum()
    if min(law.max(), np.sort(law)[:-1].sum()) * draws < EXPECTED:
        with pytest.raises(InputError, match="draws"):
            classes(law, draws)
        return
    labels = classes(law, draws)
    expected = np.bincount(labels, weights=law) * draws
    assert expected.size >= 2
    assert expected.min() >= EXPECTED * (1 - 1e-9)
    assert (np.bincount(labels)[:-1] == 1).all()
    assert law[labels == labels.max()].max() <= law[labels < labels.max()].min() + 1e-12


def test_no_deviation_of_a_size_has_less_noncentrality_than_is_reckoned_with() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        p, q = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6))
        tv = np.abs(p - q).sum() / 2
        assert np.sum((q - p) ** 2 / p) >= 4 * tv**2
    p = np.full(6, 1 / 6)
    assert np.sum((deviating(p, 0.1) - p) ** 2 / p) == pytest.approx(4 * 0.1**2)  # attained


def test_an_exact_sampler_is_refused_as_often_as_was_said() -> None:
    """By simulation; the binomial test of the simulation itself errs once in 10,000 times, with a fixed seed never."""
    counts = np.random.default_rng(5).multinomial(2000, LAW, size=2000)
    refused = sum(not compare(row, LAW, 0.05).exact for row in counts)
    assert binomtest(refused, 2000, 0.05).pvalue > 1e-4
    variations = [compare(row, LAW, 0.05) for row in counts[:400]]
    found = np.array([one.total_variation for one in variations])
    assert abs(found.mean() - variations[0].expected_variation) < 4 * found.std() / 20
    assert np.mean(found > variations[0].largest_variation) <= 0.05


@pytest.mark.parametrize("tv", [0.03, 0.1])
def test_the_draws_that_are_needed_find_the_hardest_deviation_as_often_as_was_said(tv: float) -> None:
    draws = draws_needed(LAW, tv, power_wanted=0.9, false_alarm=0.01)
    assert power(LAW, draws, tv, 0.01) >= 0.9
    assert power(LAW, int(0.8 * draws), tv, 0.01) < 0.9
    counts = np.random.default_rng(7).multinomial(draws, deviating(LAW, tv), size=500)
    found = np.mean([not compare(row, LAW, 0.01).exact for row in counts])
    assert found > 0.9 - 3 * np.sqrt(0.09 / 500)


@pytest.mark.parametrize("draws", [50, 263, 1000])
def test_the_power_for_two_outcomes_is_that_of_a_normal_variable(draws: int) -> None:
    """One degree of freedom: (Z + 2 d sqrt(n))^2 against the square of the normal quantile."""
    edge, shift = norm.isf(0.05 / 2), 2 * 0.1 * np.sqrt(draws)
    assert power([0.5, 0.5], draws, 0.1, 0.05) == pytest.approx(norm.sf(edge - shift) + norm.cdf(-edge - shift))


def test_variations_and_residuals_by_hand() -> None:
    found = compare([60, 40], [0.5, 0.5], 0.01)
    assert found.residuals.tolist() == [2.0, -2.0]  # 10 draws more than 50 +- 5
    assert compare([30, 70], [0.1, 0.9], 0.01).residuals == pytest.approx([20 / 3, -20 / 3])
    # |O - 50| / 100 has the mean 50 C(100, 50) / 2^100 / 100; a draw moves it by 1/100 at most (McDiarmid).
    mean = 50 * math.comb(100, 50) / 2**100 / 100
    assert found.expected_variation == pytest.approx(mean, rel=1e-12)
    assert found.largest_variation == pytest.approx(mean + math.sqrt(math.log(100) / 200), rel=1e-12)


def test_the_mean_variation_is_that_of_all_draws() -> None:
    law, draws, mean = np.array([0.45, 0.33, 0.22]), 30, 0.0
    for first in range(draws + 1):
        for second in range(draws + 1 - first):
            counts = np.array([first, second, draws - first - second])
            mean += multinomial.pmf(counts, draws, law) * np.abs(counts / draws - law).sum() / 2
    assert compare([14, 10, 6], law, 0.01).expected_variation == pytest.approx(mean, rel=1e-9)


def test_what_hides_in_the_rare_outcomes_is_reckoned_with() -> None:
    law = np.array([0.5, 0.3, *np.full(2000, 0.0001)])
    assert power(law, 1000, 0.15, 0.01) == 0.0  # the rare ones are one class of 0.2
    assert draws_needed(law, 0.15, power_wanted=0.9, false_alarm=0.01) >= EXPECTED / 0.0001


def test_impossible_draws_refuse() -> None:
    found = compare([50, 50], [0.5, 0.5], 0.01, impossible=1)
    assert (found.exact, found.p_value, found.draws) == (False, 0.0, 101)
    assert found.total_variation == pytest.approx(1 / 101)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tv": 0.0}, "tv"),
        ({"tv": 1.0}, "tv"),
        ({"power_wanted": 1.0}, "power"),
        ({"power_wanted": 0.01}, "power"),
        ({"false_alarm": 0.0}, "false_alarm"),
        ({"law": [0.5, 0.6]}, "law"),
        ({"law": [1.0, 0.0]}, "law"),
        ({"tv": 1e-6}, "tv"),
    ],
)
def test_what_cannot_be_asked(change: dict[str, object], field: str) -> None:
    asked: dict[str, object] = {"law": LAW, "tv": 0.1, "power_wanted": 0.9, "false_alarm": 0.01}
    with pytest.raises(InputError) as refused:
        draws_needed(**{**asked, **change})  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("counts", [[1, 2, 3], [-1, 200]])
def test_counts_that_do_not_fit(counts: list[int]) -> None:
    with pytest.raises(InputError, match="counts"):
        compare(counts, [0.5, 0.5], 0.01)


def test_too_few_draws_are_told() -> None:
    with pytest.raises(InputError, match="draws: got 6, allowed: more"):
        compare([3, 3], [0.5, 0.5], 0.01)
