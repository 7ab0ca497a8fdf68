"""Advantages from the rewards of a group of samples, one function a learner.

Axis letters: P prompts, G samples of one prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STD_FLOOR = 1e-6  # added to a group's standard deviation, as the public GRPO implementations do


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
    return centred(rewards_PG) * (G / (G - 1))


def centred(rewards_PG: Tensor) -> Tensor:
    """Return R_g minus the mean of its group, shape [P, G]."""
    return rewards_PG - rewards_PG.mean(dim=-1, keepdim=True)


def standardised(rewards_PG: Tensor) -> Tensor:
    """Return (R_g - mean) / (standard deviation of the group + 1e-6), GRPO's advantage (Shao 2024); biased.

    Example:
        >>> import torch
        >>> standardised(torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]])).round(decimals=3).tolist()
        [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return centred(rewards_PG) / (rewards_PG.std(dim=-1, keepdim=True) + STD_FLOOR)


def likeliness_discount(policy_PG: Tensor, rank_penalty: float) -> Tensor:
    """Return 1 - beta_rank (G - rank) / G, rank 0 the likeliest sample of its group (He 2025, unlikeliness reward).

    Args:
        policy_PG: log pi of the samples, shape [P, G].
        rank_penalty: beta_rank.

    Example:
        >>> import torch
        >>> likeliness_discount(torch.tensor([[-1.0, -9.0]]), 0.25)
        tensor([[0.7500, 0.8750]])
    """
    G = policy_PG.shape[-1]
    rank_PG = (-policy_PG).argsort(dim=-1, stable=True).argsort(dim=-1)
    return 1.0 - rank_penalty * (G - rank_PG) / G


def best_only(rewards_PG: Tensor) -> Tensor:
    """Return G at the first sample of largest reward and 0 elsewhere: the likelihood of the best of N (Huang 2024)."""
    from torch.nn.functional import one_hot

    G = rewards_PG.shape[-1]
    return G * one_hot(rewards_PG.argmax(dim=-1), G).to(rewards_PG.dtype)
