"""Statistics against SciPy, published numbers and simulations of coverage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sharpen.paper_repro.intervals import stats


def simulated(rng: np.random.Generator, S: int, P: int, seed: float, problem: float, rest: float) -> np.ndarray:
    """Return x_sp = a_s + b_p + e_sp with these standard deviations; its mean is 0."""
    return seed * rng.normal(size=(S, 1)) + problem * rng.normal(size=(1, P)) + rest * rng.normal(size=(S, P))


def test_one_seed_gives_the_t_interval_over_problems() -> None:
    x = np.random.default_rng(0).normal(0.3, 1.0, size=40)
    found = stats.hierarchical_interval(x)
    theirs: Any = scipy.stats.ttest_1samp(x, 0.0)
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_one_problem_gives_the_t_interval_over_seeds() -> None:
    x = np.array([0.2, 0.5, 0.9])
    found = stats.seed_interval(x)
    interval = scipy.stats.ttest_1samp(x, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_two_way_mean_squares_of_a_textbook_table() -> None:
    """3 x 4 table whose sums of squares are worked out by hand: rows 32, columns 20, rest 0."""
    x = np.array([0.0, 2.0, 4.0])[:, None] + np.array([0.0, 1.0, 2.0, 3.0])[None, :] * math.sqrt(4 / 3)
    squares, freedoms = stats.mean_squares(x)
    assert freedoms == {"seed": 2, "problem": 3, "rest": 6}
    assert squares["seed"] * 2 == pytest.approx(32.0)
    assert squares["problem"] * 3 == pytest.approx(20.0)
    assert squares["rest"] == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize(("S", "P", "scales"), [(3, 64, (0.1, 0.5, 0.3)), (3, 64, (0.0, 0.5, 0.3)), (5, 30, (1, 1, 1))])
def test_the_hierarchical_interval_covers_the_truth(S: int, P: int, scales: tuple[float, float, float]) -> None:
    """Of 500 simulated tables at least 93 % of the intervals hold the mean (binomial error 1 %)."""
    rng = np.random.default_rng(1)
    intervals = [stats.hierarchical_interval(simulated(rng, S, P, *scales)) for _ in range(500)]
    covered = np.mean([found.low <= 0 <= found.high for found in intervals])
    assert covered >= 0.93
    # And it is not wide for nothing: with no spread over seeds it is close to the interval over problems alone.
    if scales[0] == 0:
        widths = np.mean([found.high - found.low for found in intervals])
        assert widths < 1.6 * 2 * 1.96 * math.hypot(scales[1], scales[2] / math.sqrt(S)) / math.sqrt(P)


def test_the_bootstrap_covers_where_problems_alone_vary() -> None:
    rng = np.random.default_rng(2)
    tables = [simulated(rng, 1, 60, 0.0, 1.0, 0.5) for _ in range(400)]
    intervals = [stats.bootstrap_interval(table, seed, 500) for seed, table in enumerate(tables)]
    covered = np.mean([found.low <= 0 <= found.high for found in intervals])
    assert 0.91 <= covered <= 0.98  # percentile intervals of 60 problems: a little short of 95 %


def test_the_bootstrap_agrees_with_scipy_on_one_seed() -> None:
    x = np.random.default_rng(3).normal(0.3, 1.0, size=50)
    ours = stats.bootstrap_interval(x, seed=0, resamples=20_000)
    theirs = scipy.stats.bootstrap((x,), np.mean, n_resamples=20_000, method="percentile", rng=4).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_the_bootstrap_draws_seeds_too() -> None:
    """With no spread over problems the means of three seeds have 27 equally likely resamples: enumerate them."""
    x = np.array([[0.0], [3.0], [9.0]]) + np.zeros((3, 10))
    ours = stats.bootstrap_interval(x, seed=0, resamples=20_000)
    means = [np.mean(draw) for draw in np.array(np.meshgrid([0, 3, 9], [0, 3, 9], [0, 3, 9])).reshape(3, -1).T]
    ends = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert (ours.low, ours.high) == pytest.approx(tuple(ends))


def test_holm_on_a_published_example() -> None:
    """Wright (1992), as in R's p.adjust documentation style: sorted p times m, m-1, …, made monotone."""
    p = [0.01, 0.02, 0.03, 0.04, 0.05]
    assert stats.holm(p) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_are_monotone_and_never_smaller(p: list[float]) -> None:
    holm, fdr = stats.holm(p), stats.benjamini_hochberg(p)
    assert np.all(holm >= np.array(p) - 1e-12)
    assert np.all(fdr <= holm + 1e-12)
    order = np.argsort(p)
    assert np.all(np.diff(holm[order]) >= -1e-12)


def test_holm_controls_the_family_wise_error() -> None:
    """Under 20 true null hypotheses some corrected p is below 0.05 in at most 5 % of families (1,000 of them)."""
    rng = np.random.default_rng(5)
    wrong = np.mean([stats.holm(rng.uniform(size=20)).min() < 0.05 for _ in range(1000)])
    assert wrong < 0.07
    assert wrong > 0.02


def test_effect_sizes() -> None:
    a = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    b = np.array([[0.0, 2.0, 1.0, 1.0, 7.0]])
    found = stats.effect(a, b)
    d = a[0] - b[0]
    assert found.difference == pytest.approx(d.mean())
    # t = d_z sqrt(n); Hedges' factor for 4 degrees of freedom is 1 - 3/15.
    t = scipy.stats.ttest_rel(a[0], b[0]).statistic
    assert found.standardized == pytest.approx((1 - 3 / 15) * t / math.sqrt(5))
    assert found.wins == pytest.approx(3 / 5 + 1 / 10)
    assert stats.effect(a, a).standardized is None


def test_share_is_clopper_pearson() -> None:
    """0 of 3: the upper end is 1 - 0.025^(1/3)."""
    found = stats.share(0, 3)
    assert (found.low, found.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 3)))
    assert stats.share(3, 3).low == pytest.approx(0.025 ** (1 / 3))


def test_drawdowns() -> None:
    assert stats.worst_drawdown([0.1, 0.2, 0.3]) == 0.0
    assert stats.worst_drawdown([0.5, 0.9, 0.2, 0.8]) == pytest.approx(0.7)
    assert stats.worst_drawdown_to_last([0.5, 0.9, 0.2, 0.8]) == pytest.approx(0.1)


def test_refuses_a_single_number_and_nan() -> None:
    for wrong in ([[1.0]], [[1.0, float("nan")]]):
        with pytest.raises(ValueError, match="x_SP"):
            stats.hierarchical_interval(wrong)


def test_equal_numbers_have_an_interval_without_width() -> None:
    found = stats.hierarchical_interval(np.full((3, 5), 0.25))
    assert (found.mean, found.low, found.high, found.p) == (0.25, 0.25, 0.25, 0.0)
    assert stats.hierarchical_interval(np.zeros((3, 5))).p == 1.0
