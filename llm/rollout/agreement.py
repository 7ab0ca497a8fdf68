"""Whether an engine samples from the policy that is trained, told from both their log-probabilities of its tokens.

Two correct implementations round differently. On nearly all tokens that is little; on single ones, of low probability
or in places that no training text has (runs of special tokens), it is nats. An engine with other weights differs on
many tokens. So the largest difference says little; the mean and the upper end of all but the worst hundredth decide.
Few tokens say little about a hundredth of them: as many are left out as a rate of one in a hundred stays within in all
but one batch of a thousand. (A sharpened policy that was in step had a mean of .007 nats and was stopped without this.)
(Their median would not: where a policy is sure of more than half of its tokens, these agree under similar weights.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sharpen.llm.rollout.types import WeightSyncError

# Most nats on all tokens but the worst hundredth, by the dtype of the trainer's passes. Correct engines
# differ, where measured on a model of 135 M parameters, by 3e-5 on average in float32, and in bfloat16 by .04 on
# average and .47 at most. bfloat16 keeps 8 significant bits: logits of 16 to 32 are rounded to steps of 1/8, and a
# log-probability is the difference of two such numbers.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5}
USUAL = 0.2  # share of the tolerance that the mean over these tokens may reach: an engine with other weights passes it
WORST = 0.01  # share of the tokens that may be further apart
CHANCE = 1e-3  # of more than are left out, where that is their share


class Agreement(NamedTuple):
    """How far two log-probabilities of the same tokens are apart, nats, without the worst hundredth.

    Args:
        mean: Over the tokens that are left.
        high: Largest of them.
    """

    mean: float
    high: float


def agreement(errors: Sequence[float] | np.ndarray | Tensor) -> Agreement:
    """Return the two statistics of |log pi - log pi'| over tokens; NaN if one of them is NaN or infinite.

    A single token is not left out.

    Example:
        >>> agreement([1e-6] * 99 + [10.6]).high < 1e-5
        True
    """
    ordered = torch.as_tensor(errors, dtype=torch.float64).flatten().sort(descending=True).values
    if not len(ordered):
        return Agreement(0.0, 0.0)
    if not bool(ordered.isfinite().all()):
        return Agreement(float("nan"), float("nan"))
    kept = ordered[min(left_out(len(ordered)), len(ordered) - 1) :]
    return Agreement(float(kept.mean()), float(kept[0]))


def left_out(n: int) -> int:
    """Return how many of n tokens are the worst hundredth: the quantile 1 - CHANCE of Binomial(n, WORST), or 1.

    Example:
        >>> left_out(100), left_out(100_000)
        (5, 1099)
    """
    from scipy.special import bdtr, bdtrik  # scipy.stats takes half a second to import, before the first step

    found = math.ceil(bdtrik(1 - CHANCE, n, WORST))
    return max(1, found - 1 if bdtr(found - 1, n, WORST) >= 1 - CHANCE else found)


def require_agreement(name: str, errors: Sequence[float] | Tensor, dtype: torch.dtype, given: float | None) -> None:
    """Raise if an engine samples from another policy than the trainer's.

    Args:
        name: The engine's.
        errors: |log pi_trainer - log pi_engine| of every sampled token of a rollout, nats.
        dtype: Of the trainer's passes.
        given: Tolerance; None for that of the dtype.

    Raises:
        WeightSyncError: more tokens than :func:`left_out` are too far apart, or the others are on average.
    """
    allowed, found = given or TOLERANCE[dtype], agreement(errors)
    if not (found.high <= allowed and found.mean <= USUAL * allowed):  # NaN fails too
        raise WeightSyncError(
            f"the {name} engine and the trainer differ by {found.mean:.3g} nats on a token and by up to "
            f"{found.high:.3g}, without the worst hundredth (allowed: {USUAL * allowed:g} and {allowed:g}, "
            "engine_tolerance): the engine does not sample from the policy being trained"
        )
