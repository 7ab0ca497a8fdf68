"""The curve of a forecast from known outcomes: certified bounds of each prompt in place of estimates (T15)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.certified import Interval, Seen, expected_reward, pass_at_k
from sharpen.theory.audit.outcomes import Known
from sharpen.theory.core.intervals import SURE, UNIT, Resampler
from sharpen.theory.core.problem import FloatArray

WIDEST = 0.1  # mean width of the prompts' bounds, above which no number is given


def certified(
    known: Sequence[Known], alpha: float, ks: Sequence[int], base: FloatArray, resampler: Resampler
) -> dict[str, Any]:
    """Return what the known outcomes of P prompts say of one exponent.

    Args:
        known: What is known of each prompt's outcomes; what was cut together is bounded at this exponent.
        alpha: Exponent, at least 1.
        ks: Numbers of samples of pass@k.
        base: Accuracy of p on every prompt, shape [P].
        resampler: Of the P prompts.

    Returns:
        ``certain``, mean bounds over the prompts that were asked, which hold without any chance; and unless they are
        wider than .1 ``expected_reward``, their middle, with ``low`` and ``high``, between which lies the mean over all
        prompts of the task with 95 %: where the interval of the lower bounds begins, and that of the upper ones ends;
        the same for ``pass@k`` and, without a ``certain``, for ``gain`` over ``base``.

    Raises:
        InputError: alpha < 1, or another number of prompts than the resampler has.
    """
    if len(known) != resampler.prompts:
        raise InputError("outcomes", f"those of {len(known)} problems", f"of the {resampler.prompts} that are asked")
    objective, seen = Objective(alpha=alpha), [one.seen(alpha) for one in known]
    reward = _ends(seen, lambda one: expected_reward(one, objective))
    row: dict[str, Any] = {"certain": reward.mean(axis=0).tolist()}
    if np.diff(row["certain"])[0] > WIDEST:
        return row
    middle = 0.5 * (reward[:, 0] + reward[:, 1])
    row |= {"expected_reward": float(middle.mean()), **_interval("", reward, UNIT, resampler)}
    for k in ks:
        ends = _ends(seen, lambda one, k=k: pass_at_k(one, objective, k))
        row |= {f"pass@{k}": float(ends.mean()), **_interval(f"pass@{k}_", ends, UNIT, resampler)}
        row[f"pass@{k}_certain"] = ends.mean(axis=0).tolist()
    gains = reward - base[:, None]
    row |= {"gain": float((middle - base).mean()), **_interval("gain_", gains, None, resampler)}
    apart = all(resampler.is_apart(column, SURE) for column in gains.T)
    return row | {"sure": apart and row["gain_low"] * row["gain_high"] > 0}


def _ends(seen: Sequence[Seen], of: Callable[[Seen], Interval]) -> FloatArray:
    """Return the bounds of every prompt, shape [P, 2]."""
    return np.array([of(one) for one in seen], dtype=np.float64)


def _interval(
    prefix: str, ends: FloatArray, unit: tuple[float, float] | None, resampler: Resampler
) -> dict[str, float]:
    low, high = ends[:, 0], ends[:, 1]
    return {f"{prefix}low": resampler.mean(low, unit)[0], f"{prefix}high": resampler.mean(high, unit)[1]}
