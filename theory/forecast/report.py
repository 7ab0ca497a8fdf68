"""The whole forecast from base samples, and its verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, rel_entr

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.outcomes import Known
from sharpen.theory.core.intervals import SURE, UNIT, Resampler
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.forecast.estimate import KL, REWARD, Estimate, estimate
from sharpen.theory.forecast.samples import Samples, check_prompts
from sharpen.theory.forecast.slopes import calibration, slopes
from sharpen.theory.forecast.trees import certified

ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)
RAISE, LOWER, STILL, UNTOLD = "raise", "lower", "not move", "cannot be told"
LEAST_GAIN = 0.02  # of accuracy: a smaller change is none, however sure
STRONGEST = 60.0  # a tilt by which every prompt with a right sample is right
WITHIN = 0.05  # an interval of the gain that lies within this of 0 says that sharpening does not move accuracy


def forecast(
    prompts: Sequence[Samples],
    alphas: Sequence[float] = ALPHAS,
    beta_invs: Sequence[float] = (),
    ks: Sequence[int] = (),
    seed: int = 0,
    known: Mapping[float, FloatArray] | None = None,
    trees: Sequence[Known] | None = None,
) -> dict[str, Any]:
    """Return what sharpening and the task reward would do, estimated from samples of p.

    Args:
        prompts: P sets of samples, at least two samples each.
        alphas: Exponents of p^alpha, each at least 0; 1 is added.
        beta_invs: Weights of the task reward against the KL, of tilts p^alpha e^(beta_inv r) at every exponent.
        ks: Numbers of samples of pass@k and maj@k; slopes are of those that are less than every prompt has samples.
        seed: Of the intervals.
        known: By exponent, accuracy of every prompt, shape [P], measured by another method where samples cannot tell.
        trees: Known outcomes of every prompt: certified bounds then replace estimates at exponents above 1.

    Returns:
        ``curve``: one row per exponent with ``alpha``, ``expected_reward``, ``low``, ``high``, ``ess`` and more, None
        with ``needs`` where the samples cannot tell; ``gain`` over p, ``sure`` if its 99 % interval leaves 0 out, and
        ``price``, the part of it in what the task reward gains for the same KL; ``tilts``: rows with ``beta_inv``;
        ``mode``: the reward of the likeliest response; ``task_reward``: what a reward tilt can reach at most, 1 on
        prompts with a right sample; ``mixed``: the share of prompts with right and wrong samples; ``slope_at_1``,
        ``price``, ``pass_slopes``, ``crossover`` and ``calibration``; ``effect``, ``verdict`` and ``problems``,
        ``samples``.

    Raises:
        InputError: too few prompts or samples, or an exponent, tilt or k out of range.

    Example:
        >>> p = np.array([0.5, 0.3, 0.2])
        >>> drawn = Samples.of(np.log(p)[[0, 0, 0, 1, 1, 2]], [1, 1, 1, 0, 0, 0], response=list("aaabbc"))
        >>> found = forecast([drawn] * 40, alphas=[2.0])
        >>> round(found["curve"][1]["expected_reward"], 3), found["effect"]
        (0.658, 'raise')
    """
    check_prompts(prompts)
    if not alphas or min(alphas) < 0:
        raise InputError("alphas", list(alphas), "numbers >= 0, at least one")
    if any(not 0 < beta_inv < float("inf") for beta_inv in beta_invs):
        raise InputError("beta-inv", list(beta_invs), "numbers > 0")
    resampler = Resampler(len(prompts), seed)
    exponents = sorted({1.0, *map(float, alphas)})
    found = {alpha: estimate(prompts, Objective(alpha=alpha), ks) for alpha in exponents}
    gains = {alpha: _gain(one, found[1.0], prompts, resampler) for alpha, one in found.items() if alpha > 1}
    curve = [{"alpha": alpha} | one.row(resampler) | gains.get(alpha, {}) for alpha, one in found.items()]
    base = found[1.0].values[REWARD]
    for alpha, row in zip(found, curve, strict=True):
        if known is not None and alpha in known and "needs" in row:
            row.update(_measured(known[alpha], base, resampler))
            del row["needs"]
        if trees is not None and alpha > 1:
            row.update(bounds := certified(trees, alpha, ks, base, resampler))
            if "gain" in bounds:
                row.pop("needs", None)
    task = estimate(prompts, Objective(mode="optimization", alpha=0, beta_inv=1))
    likeliest = estimate(prompts, Objective(mode="optimization", alpha=1, beta_inv=0))
    tilts = [
        {"alpha": alpha, "beta_inv": beta_inv}
        | estimate(prompts, Objective(alpha=alpha, beta_inv=beta_inv), ks).row(resampler)
        for beta_inv in beta_invs
        for alpha in exponents
    ]
    result = {
        "problems": len(prompts),
        "samples": min(one.n for one in prompts),
        "curve": curve,
        "tilts": tilts,
        "mode": _row(likeliest.values[REWARD], resampler) | {"untold": likeliest.untold},
        "task_reward": _row(task.values[REWARD], resampler),
        "mixed": _row(np.array([0 < one.right.mean() < 1 for one in prompts], dtype=float), resampler),
        **slopes(prompts, [k for k in ks if k < min(one.n for one in prompts)], resampler),
        "calibration": calibration(prompts, resampler),
    }
    effect, sentence = verdict(result)
    return result | {"effect": effect, "verdict": sentence}


def _row(values: FloatArray, resampler: Resampler) -> dict[str, Any]:
    low, high = resampler.mean(values, UNIT)
    return {"value": float(values.mean()), "low": low, "high": high}


def _gain(one: Estimate, base: Estimate, prompts: Sequence[Samples], resampler: Resampler) -> dict[str, Any]:
    """Return the gain over p, paired by prompt, and what part it is of the task reward's for the same KL."""
    if not one.told:
        return {"gain": None, "gain_low": None, "gain_high": None, "sure": None, "price": None}
    difference = one.values[REWARD] - base.values[REWARD]
    low, high = resampler.mean(difference)
    sure = resampler.is_apart(difference, SURE)
    binary = all(np.array_equal(each.reward, each.right) for each in prompts)
    most = tilt_gain(base.values[REWARD], float(one.values[KL].mean())) if binary else 0.0
    gain = float(difference.mean())
    price = gain / most if most > 0 else None
    return {"gain": gain, "gain_low": low, "gain_high": high, "sure": sure, "price": price}


def _measured(values: FloatArray, base: FloatArray, resampler: Resampler) -> dict[str, Any]:
    """Return what another method measured of an exponent; the other measures stay untold."""
    found = _row(values, resampler)
    low, high = resampler.mean(values - base)
    sure = resampler.is_apart(values - base, SURE)
    gain = {"gain": float((values - base).mean()), "gain_low": low, "gain_high": high, "sure": sure}
    return {"expected_reward": found["value"], "low": found["low"], "high": found["high"], **gain, "measured": True}


def tilt_gain(accuracy: FloatArray, budget: float) -> float:
    """Return what p e^(beta_inv r) gains in accuracy where its KL to p, the mean over prompts, is a budget.

    A prompt's accuracy q becomes q' with odds(q') = e^beta_inv odds(q), at KL(q' || q) of two coins: no policy gains
    more for the budget. A budget beyond the last of them buys all that there is.

    Args:
        accuracy: q of every prompt, shape [P].
        budget: Nats, >= 0.

    Example:
        >>> round(tilt_gain(np.array([0.5]), 0.1308), 3)
        0.25
    """
    q = accuracy[(accuracy > 0) & (accuracy < 1)]
    if not q.size or budget <= 0:
        return 0.0

    def tilted(beta_inv: float) -> FloatArray:
        return expit(logit(q) + beta_inv)

    def cost(beta_inv: float) -> float:
        after = tilted(beta_inv)
        return float(np.sum(rel_entr(after, q) + rel_entr(1 - after, 1 - q))) / accuracy.size - budget

    strength = STRONGEST
    if cost(STRONGEST) > 0:
        strength, _ = brentq(cost, 0.0, STRONGEST, full_output=True)
    return float(np.sum(tilted(strength) - q)) / accuracy.size


def verdict(result: dict[str, Any]) -> tuple[str, str]:
    """Return the effect of sharpening, and it in words with what the task reward can reach.

    It raises (lowers) accuracy if at some exponent above 1 the gain's 99 % interval lies above (below) 0, since several
    are looked at, and the gain is at least .02; of several the largest counts, and a fall after a rise is said. It does
    not move accuracy if all 95 % intervals that there are lie within .05 of 0. Otherwise it cannot be told.
    """
    rows = [row for row in result["curve"] if row.get("gain") is not None]
    moved = [row for row in rows if abs(row["gain"]) >= LEAST_GAIN and row["sure"]]
    base, task = result["curve"], result["task_reward"]
    start_row = next(row for row in base if row["alpha"] == 1)
    start = start_row["expected_reward"]
    if moved:
        best = max(moved, key=lambda row: (row["gain"] > 0, abs(row["gain"])))
        effect = RAISE if best["gain"] > 0 else LOWER
        words = (
            f"Sharpening will {effect} accuracy: from {start:.2f} to {best['expected_reward']:.2f} "
            f"[{best['low']:.2f}, {best['high']:.2f}] at alpha = {best['alpha']:g}."
        )
        words += _coverage(start_row, best)
        later = [row for row in moved if row["alpha"] > best["alpha"] and row["gain"] < 0]
        if effect == RAISE and later:
            words += f" It lowers it from alpha = {later[0]['alpha']:g} on."
    elif rows and all(max(-row["gain_low"], row["gain_high"]) <= WITHIN for row in rows):
        effect = STILL
        words = f"Sharpening will not move accuracy: it stays within {WITHIN:g} of {start:.2f}."
    else:
        effect = UNTOLD
        words = "Whether sharpening raises accuracy cannot be told."
    untold = [row for row in base if row["alpha"] > 1 and "needs" in row]
    if untold:
        words += (
            f" From {result['samples']} samples nothing can be told of alpha = "
            f"{', '.join(format(row['alpha'], 'g') for row in untold)}; alpha = {untold[0]['alpha']:g} needs about "
            f"{untold[0]['needs']} of each prompt."
        )
    return effect, words + (
        f" Task reward can reach {task['value']:.2f} [{task['low']:.2f}, {task['high']:.2f}], the share of prompts "
        "with a right sample."
    )


def _coverage(base: dict[str, Any], best: dict[str, Any]) -> str:
    """Return what happens there to the largest pass@k, where it changes."""
    names = [name for name in base if name.startswith("pass@") and "_" not in name]
    if not names or best[names[-1]] is None or abs(best[names[-1]] - base[names[-1]]) < LEAST_GAIN:
        return ""
    return f" There {names[-1]} goes from {base[names[-1]]:.2f} to {best[names[-1]]:.2f}."
