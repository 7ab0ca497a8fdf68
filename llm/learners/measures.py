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


def effective_alpha(
    policy_PG: Tensor, reference_PG: Tensor, length_PG: Tensor | None = None, again_PG: Tensor | None = None
) -> Slope | None:
    """Return the least-squares slope of log pi on log p over the samples, centred within each prompt.

    If pi = p^alpha / Z for each prompt, then log pi = alpha log p - log Z(prompt), and centring removes Z: the slope is
    alpha. It says how far a tempered run has come towards the alpha that its objective names. The interval uses the
    standard error that is robust to dependence within a prompt (prompts as clusters, CR1) and Student's t.

    Noise in log p, as rounding in bfloat16, makes the least-squares slope too small by the factor that
    :func:`reliability` estimates. A second scoring of the same samples, with errors of its own, is an instrument
    (Fuller 1987, section 1.4): sum z y / sum z x, with x and z the two scorings of log p and y log pi, has no such
    bias. Errors that y shares with x do no harm; those that z shares with either remain.

    Args:
        policy_PG: Sequence log-probabilities under the policy, shape [P, G], nats.
        reference_PG: Under the reference, same shape.
        length_PG: Lengths in tokens; if given, samples are centred within each prompt and length, which gives the slope
            at fixed length.
        again_PG: log p by a second, independent scoring.

    Returns:
        The slope, or None if the samples of every group are equally likely under the reference.

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[-1.0, -2.0], [-5.0, -3.0]])
        >>> effective_alpha(2 * log_p + torch.tensor([[7.0], [9.0]]), log_p).slope
        2.0
    """
    x, y = (_within_groups(values.double(), length_PG) for values in (reference_PG, policy_PG))
    z = x if again_PG is None else _within_groups(again_PG.double(), length_PG)
    spread = float((z * x).sum())
    if spread <= _rounding_of(reference_PG):
        return None
    slope = float((z * y).sum()) / spread
    scores_P = (z * (y - slope * x)).sum(dim=1)
    clusters = int(((x * x).sum(dim=1) > _single_precision(reference_PG)).sum())
    if clusters < 2:
        return Slope(slope, None, None)
    from scipy.special import stdtrit  # scipy.stats takes half a second to import, before the first step

    error = math.sqrt(float(scores_P.square().sum()) * clusters / (clusters - 1)) / spread
    half = float(stdtrit(clusters - 1, 0.5 + CONFIDENCE / 2)) * error
    return Slope(slope, slope - half, slope + half)


def reliability(reference_PG: Tensor, difference_PG: Tensor, length_PG: Tensor | None = None) -> float | None:
    """Return the share of the spread of log p within prompts that is not noise of its scoring, from 0 to 1.

    The least-squares slope of :func:`effective_alpha` is the true one times this (Fuller 1987, section 1.1): noise of
    variance s^2 in log p adds s^2 to the spread, and nothing to the covariance with log pi. Of the difference of two
    scorings with independent errors of one size, half the variance is that of one: 1 - 1/2 sum d^2 / sum x^2, with d
    and x centred within prompts.

    Args:
        reference_PG: log p, shape [P, G], nats.
        difference_PG: Difference of two scorings of log p, or of the policy by the same two programs as a stand-in.
        length_PG: As for :func:`effective_alpha`.

    Returns:
        The share, or None if the samples of every group are equally likely under the reference.

    Example:
        >>> import torch
        >>> reliability(torch.tensor([[3.0, -3.0]]), torch.tensor([[1.0, -1.0]]))
        0.9444444444444444
    """
    x, d = (_within_groups(values.double(), length_PG) for values in (reference_PG, difference_PG))
    spread = float((x * x).sum())
    if spread <= _rounding_of(reference_PG):
        return None
    return max(0.0, 1.0 - 0.5 * float((d * d).sum()) / spread)


def _rounding_of(values_PG: Tensor) -> float:
    """Return what rounding in centring leaves, about eps^2 of the squares: less than that is no spread."""
    return values_PG.numel() * 1e-30 * (1.0 + float(values_PG.double().square().max()))


def _single_precision(values_PG: Tensor) -> Tensor:
    """Return, for each prompt, the spread that equal responses can have whose scoring is rounded to float32."""
    import torch

    size_P = values_PG.double().abs().amax(dim=1)
    return values_PG.shape[1] * (4 * torch.finfo(torch.float32).eps * size_P).square()


def _within_groups(values_PG: Tensor, length_PG: Tensor | None) -> Tensor:
    if length_PG is None:
        return values_PG - values_PG.mean(dim=1, keepdim=True)
    same_PGG = (length_PG[:, :, None] == length_PG[:, None, :]).to(values_PG.dtype)
    mean_PG = (same_PGG @ values_PG[:, :, None])[:, :, 0] / same_PGG.sum(dim=2)
    return values_PG - mean_PG
