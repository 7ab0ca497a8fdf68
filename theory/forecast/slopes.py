"""What samples of p tell without weights: the slope at alpha = 1, its price, pass@k, and how reward goes with log p.

T4: d/dalpha E_{p^alpha}[r] at 1 is Cov_p(r, log p), which the sample covariance estimates without bias.

T23: for the same small KL sharpening gains Corr_p(r, log p) of what the task reward gains; with one alpha for all
prompts, and one tilt, the covariance and both variances are means over prompts.

T25: d pass@k / dalpha = k mean (1 - q)^(k-1) Cov(r, log p) for rewards 0 or 1. Over k + 1 samples of which one is
right, one wrong and k - 1 further ones wrong, its U-statistic is

    k C(W - 1, k - 1)/C(n - 2, k - 1) sum_{right i, wrong j} (log p_i - log p_j) / (n (n - 1)),   W wrong ones of n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from sharpen.objective import InputError
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.forecast.samples import Samples, check_prompts

BINS = 5  # of the calibration curve, each with a fifth of every prompt's samples
LEAST_STEP = 0.02  # of the calibration curve: a smaller one is no turn


def slope(samples: Samples) -> float:
    """Return the unbiased estimate of Cov_p(r, log p) of one prompt, at least two samples, nats.

    Example:
        >>> round(slope(Samples.of([-1.0, -2.0, -3.0], [1, 0, 0])), 6)
        0.5
    """
    return float(np.cov(samples.reward, samples.logprob)[0, 1])


def pass_slope(samples: Samples, k: int) -> float:
    """Return the unbiased estimate of one prompt's d pass@k / dalpha at alpha = 1, from n > k samples.

    Raises:
        InputError: k < 1, or no more than k samples.
    """
    n = samples.n
    if not 1 <= k < n:
        raise InputError("k", k, f"from 1 to one less than the samples, {n - 1}")
    wrong = int(n - samples.right.sum())
    if wrong in (0, n):
        return 0.0
    log_p = samples.logprob
    pairs = wrong * log_p[samples.right].sum() - (n - wrong) * log_p[~samples.right].sum()
    share = math.comb(wrong - 1, k - 1) / math.comb(n - 2, k - 1)
    return float(k * share * pairs / (n * (n - 1)))


def slopes(prompts: Sequence[Samples], ks: Sequence[int], resampler: Resampler) -> dict[str, Any]:
    """Return the slope at alpha = 1, the price of accuracy, and the slopes of pass@k, with 95 % intervals.

    Args:
        prompts: P of them, at least two samples each.
        ks: Numbers of samples for pass@k.
        resampler: Of the P prompts.

    Returns:
        ``slope_at_1``: ``value``, ``low``, ``high``, reward per unit of alpha; ``price``: the same of Corr(r, log p)
        within prompts, None where neither varies; ``pass_slopes``: ``k``, ``value``, ``low``, ``high`` each;
        ``crossover``: the first k whose pass@k falls, None if there is none among them, and ``crossover_certain``: the
        first whose interval lies below 0.

    Raises:
        InputError: see :func:`pass_slope`.
    """
    check_prompts(prompts)
    covariances = np.array([slope(one) for one in prompts])
    columns = np.stack(
        [
            covariances,
            [float(np.var(one.reward, ddof=1)) for one in prompts],
            [float(np.var(one.logprob, ddof=1)) for one in prompts],
        ],
        axis=1,
    )
    rows = [_row(np.array([pass_slope(one, k) for one in prompts]), resampler) | {"k": k} for k in ks]
    return {
        "slope_at_1": _row(covariances, resampler),
        "price": _price(columns, resampler),
        "pass_slopes": rows,
        "crossover": next((row["k"] for row in rows if row["value"] < 0), None),
        "crossover_certain": next((row["k"] for row in rows if row["high"] < 0), None),
    }


def _row(values: FloatArray, resampler: Resampler) -> dict[str, Any]:
    low, high = resampler.mean(values)
    return {"value": float(values.mean()), "low": low, "high": high}


def _price(columns: FloatArray, resampler: Resampler) -> dict[str, Any]:
    def correlation(means: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.clip(means[:, 0] / np.sqrt(means[:, 1] * means[:, 2]), -1.0, 1.0)

    value = float(correlation(columns.mean(axis=0, keepdims=True))[0])
    if not math.isfinite(value):
        return {"value": None, "low": None, "high": None}
    low, high = resampler.function(correlation, columns)
    return {"value": value, "low": low, "high": high}


def calibration(prompts: Sequence[Samples], resampler: Resampler) -> dict[str, Any]:
    """Return how the reward goes with likelihood within prompts: the curve whose turns bound the response's (T22).

    Each prompt's samples are ranked by log p and cut into fifths, ties shared.

    Returns:
        ``expected_reward``, ``low``, ``high``: lists from the least likely fifth to the likeliest; ``turns``: changes
        of direction among steps of at least .02; ``auc``: chance that a right sample is likelier than a wrong one of
        its prompt, mean over the prompts with both, None without any.
    """
    check_prompts(prompts)
    curve = np.array([_fifths(one) for one in prompts])
    ends = [resampler.mean(column, (0.0, 1.0)) for column in curve.T]
    means = curve.mean(axis=0)
    steps = np.diff(means)
    signs = np.sign(steps[np.abs(steps) >= LEAST_STEP])
    areas = [area for one in prompts if (area := _area(one)) is not None]
    return {
        "expected_reward": means.tolist(),
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
        "turns": int(np.sum(signs[1:] != signs[:-1])),
        "auc": float(np.mean(areas)) if areas else None,
    }


def _fifths(samples: Samples) -> FloatArray:
    """Return the mean reward of each fifth by likelihood, shape [5]; a sample on a border, or tied, counts in parts."""
    order = np.argsort(samples.logprob, kind="stable")
    log_p, r = samples.logprob[order], samples.reward[order]
    starts = np.concatenate([[0], 1 + np.flatnonzero(np.diff(log_p) > 1e-9)])
    tied = np.add.reduceat(r, starts) / np.diff(np.concatenate([starts, [r.size]]))
    total = np.concatenate([[0.0], np.cumsum(np.repeat(tied, np.diff(np.concatenate([starts, [r.size]]))))])
    edges = np.linspace(0.0, r.size, BINS + 1)
    return np.diff(np.interp(edges, np.arange(r.size + 1), total)) / (r.size / BINS)


def _area(samples: Samples) -> float | None:
    good = samples.right
    kinds = int(good.sum()), int((~good).sum())
    if not min(kinds):
        return None
    return float((rankdata(samples.logprob)[good].sum() - kinds[0] * (kinds[0] + 1) / 2) / (kinds[0] * kinds[1]))
