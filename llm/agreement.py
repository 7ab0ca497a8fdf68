"""Whether an engine samples from the policy that is trained, told from both their log-probabilities of its tokens.

Two correct implementations round differently. On nearly all tokens that is little; on single ones, of low probability
or in places that no training text has (runs of special tokens), it is nats. An engine with other weights differs on
most tokens. So the largest difference says little, and the middle and the upper end of all of them decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sharpen.llm.rollout import WeightSyncError

# Most nats on all tokens but the worst hundredth and one more, by the dtype of the trainer's passes. Where measured,
# correct engines differ, in float32, by 3e-5 on average for a model of 135 M parameters and 1e-6 for the embedded one,
# and in bfloat16 by .04 on average and .5 at most. bfloat16 keeps 8 significant bits: logits of 16 to 32 are rounded to
# steps of 1/8, and a log-probability is the difference of two such numbers.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 1.0}
MIDDLE = 0.1  # share of the tolerance that half of the tokens keep within: an engine with other weights fails it first
WORST = 0.01  # share of the tokens that may be further apart, beside one


class Agreement(NamedTuple):
    """How far two log-probabilities of the same tokens are apart, nats.

    Args:
        median: Half of the tokens are no further apart.
        high: All but a hundredth of the tokens, and one more, are no further apart (of fewer than three, the largest
            or the smaller one).
    """

    median: float
    high: float


def agreement(errors: Sequence[float] | Tensor) -> Agreement:
    """Return the two statistics of |log pi - log pi'| over tokens; NaN if any of them is.

    Example:
        >>> agreement([1e-6] * 99 + [10.6]).high < 1e-5
        True
    """
    ordered = torch.as_tensor(errors, dtype=torch.float64).flatten().sort(descending=True).values
    if not len(ordered):
        return Agreement(0.0, 0.0)
    if bool(ordered.isnan().any()):
        return Agreement(float("nan"), float("nan"))
    place = min(1 + int(WORST * len(ordered)), len(ordered) - 1)
    return Agreement(float(ordered[len(ordered) // 2]), float(ordered[place]))


def require_agreement(name: str, errors: Sequence[float] | Tensor, dtype: torch.dtype, given: float | None) -> None:
    """Raise if an engine samples from another policy than the trainer's.

    Args:
        name: The engine's.
        errors: |log pi_trainer - log pi_engine| of every sampled token of a rollout, nats.
        dtype: Of the trainer's passes.
        given: Tolerance; None for that of the dtype.

    Raises:
        WeightSyncError: half of the tokens, or more than a hundredth of them and one, are too far apart.
    """
    allowed, found = given or TOLERANCE[dtype], agreement(errors)
    if not (found.high <= allowed and found.median <= MIDDLE * allowed):  # NaN fails too
        raise WeightSyncError(
            f"the {name} engine and the trainer differ by {found.median:.3g} nats on half of the sampled tokens and by "
            f"{found.high:.3g} on a hundredth (allowed: {MIDDLE * allowed:g} and {allowed:g}, engine_tolerance): the "
            "engine does not sample from the policy being trained"
        )
