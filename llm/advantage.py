"""Advantages from the pseudo-rewards of a group of samples.

Axis letters: P prompts, G samples of one prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def leave_one_out(rewards_PG: Tensor) -> Tensor:
    """Return A_g = R_g - mean of the other samples' rewards, RLOO's advantage (Kool 2019; Ahmadian 2024).

    The baseline of a sample does not depend on that sample, so the estimator stays unbiased; nothing is divided by the
    standard deviation.

    Args:
        rewards_PG: Pseudo-rewards, shape [P, G], G >= 2.

    Returns:
        Shape [P, G]; every row sums to zero.

    Raises:
        ValueError: fewer than two samples a prompt.

    Example:
        >>> import torch
        >>> leave_one_out(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([[ 1.0000, -0.5000, -0.5000]])
    """
    G = rewards_PG.shape[-1]
    if G < 2:
        raise ValueError(f"samples per prompt: got {G}, allowed: at least 2, because the baseline is the others' mean")
    # R - (S - R)/(G - 1) = (R - S/G) G/(G - 1): centring first keeps the digits when rewards are large and close.
    centred = rewards_PG - rewards_PG.mean(dim=-1, keepdim=True)
    return centred * (G / (G - 1))
