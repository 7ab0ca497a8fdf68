"""What a step's samples say about the policy.

Axis letters: P prompts, G samples of one prompt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENCE = 0.95


class Slope(NamedTuple):
    """A regression slope with its 95% interval; the interval's ends are None where it cannot be computed."""

    slope: float
    low: float | None
    high: float | None


def effective_alpha(policy_PG: Tensor, reference_PG: Tensor, length_PG: Tensor | None = None) -> Slope | None:
    """Return the least-squares slope of log pi on log p over the samples, centred within each prompt.

    If pi = p^alpha / Z for each prompt, then log pi = alpha log p - log Z(prompt), and centring removes Z: the slope is
    alpha. It says how far a tempered run has come towards the alpha that its objective names. The interval uses the
    standard error that is robust to dependence within a prompt (prompts as clusters, CR1) and Student's t.

    Args:
        policy_PG: Sequence log-probabilities under the policy, shape [P, G], nats.
        reference_PG: Under the reference, same shape.
        length_PG: Lengths in tokens; if given, samples are centred within each prompt and length, which gives the slope
            at fixed length.

    Returns:
        The slope, or None if the samples of every group are equally likely under the reference.

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[-1.0, -2.0], [-5.0, -3.0]])
        >>> effective_alpha(2 * log_p + torch.tensor([[7.0], [9.0]]), log_p).slope
        2.0
    """
    x, y = (_within_groups(values.double(), length_PG) for values in (reference_PG, policy_PG))
    spread = float((x * x).sum())
    # Rounding in centring leaves about eps^2 of the squares; less than that is no spread.
    if spread <= x.numel() * 1e-30 * (1.0 + float(reference_PG.double().square().max())):
        return None
    slope = float((x * y).sum()) / spread
    scores_P = (x * (y - slope * x)).sum(dim=1)
    clusters = int(((x * x).sum(dim=1) > 0).sum())
    if clusters < 2:
        return Slope(slope, None, None)
    from scipy.stats import t

    error = math.sqrt(float(scores_P.square().sum()) * clusters / (clusters - 1)) / spread
    half = float(t.ppf(0.5 + CONFIDENCE / 2, clusters - 1)) * error
    return Slope(slope, slope - half, slope + half)


def _within_groups(values_PG: Tensor, length_PG: Tensor | None) -> Tensor:
    if length_PG is None:
        return values_PG - values_PG.mean(dim=1, keepdim=True)
    same_PGG = (length_PG[:, :, None] == length_PG[:, None, :]).to(values_PG.dtype)
    mean_PG = (same_PGG @ values_PG[:, :, None])[:, :, 0] / same_PGG.sum(dim=2)
    return (values_PG - mean_PG) * (same_PGG.sum(dim=2) > 1)
