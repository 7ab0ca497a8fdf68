"""Intervals over prompts beside Student's and Jeffreys's, from so many draws that chance is small."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, norm, ttest_1samp

from sharpen.theory.core import intervals
from sharpen.theory.core.intervals import UNIT, Resampler
from sharpen.theory.core.problem import FloatArray


def like_normal(count: int) -> FloatArray:
    return np.asarray(norm.ppf((np.arange(count) + 0.5) / count), dtype=np.float64)


@pytest.mark.parametrize("prompts", [10, 40])
def test_of_numbers_like_normal_ones_it_is_students(prompts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 100_000)
    values = like_normal(prompts)
    low, high = Resampler(prompts, 0).mean(values)
    assert high == pytest.approx(-low, rel=0.02)
    assert high - low == pytest.approx(np.ptp(ttest_1samp(values, 0.0).confidence_interval()), rel=0.02)


@pytest.mark.parametrize("right", [0, 3, 12])
def test_of_marks_it_is_jeffreys(right: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a gamma law with shape 1 for a mark and 1/2 for an end: the mean is a beta variable."""
    monkeypatch.setattr(intervals, "RESAMPLES", 100_000)
    resampler = Resampler(12, 0)
    found = resampler.mean((np.arange(12) < right).astype(float), UNIT)
    expected = beta.ppf(resampler.tails, right + 0.5, 12 - right + 0.5)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_verdict_can_be_surer_than_the_interval_that_is_shown() -> None:
    values = like_normal(20)
    widths = [np.ptp(ttest_1samp(values, 0.0).confidence_interval(level)) / 2 for level in (0.95, 0.99)]
    shifted = values + np.mean(widths)  # 95 % leave 0 out, 99 % do not
    resampler = Resampler(20, 0)
    for sign in (1.0, -1.0):
        assert [resampler.is_apart(sign * shifted, level) for level in (0.95, 0.99)] == [True, False]
        assert resampler.is_apart(sign * (shifted + widths[1]), 0.99)


def test_draws_without_a_value_are_left_out() -> None:
    marks, resampler = (np.arange(20) % 2).astype(float), Resampler(20, 0)
    low, high = resampler.function(lambda means: np.where(means[:, 0] > 0.5, means[:, 0], np.nan), marks[:, None])
    assert 0.5 < low < high < 0.8
    nothing = resampler.function(lambda means: np.full(len(means), np.nan), marks[:, None])
    assert all(map(math.isnan, nothing))
