"""Advantages from the rewards of a group of samples, one function a learner.

Axis letters: P prompts, G samples of one prompt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sharpen.objective import InputError

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
        ValueError: fewer than two samples per prompt.

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


def target_ratio(rewards_PG: Tensor, w_h: float) -> Tensor:
    """Return log rho = log pi*/pi of the samples of a policy, Z estimated from their group: the mean of rho is 1.

    pi* ~ exp(u / w_h) is the objective's optimum and R = u - w_h log pi, so rho is G times the softmax of R / w_h.

    Args:
        rewards_PG: Pseudo-rewards of the policy that drew the samples, shape [P, G].
        w_h: Weight of the entropy, above 0.

    Example:
        >>> import torch
        >>> target_ratio(torch.tensor([[2.0, 2.0]]), 0.5).exp().tolist()
        [[1.0, 1.0]]
    """
    return (rewards_PG / w_h).log_softmax(dim=-1) + math.log(rewards_PG.shape[-1])


def relative_to_mean(rewards_PG: Tensor, all_wrong: float = 0.0) -> Tensor:
    """Return (r_g - mean) / mean of the group, and ``all_wrong`` where the mean is 0 (Tajwar 2026, MaxRL).

    Summed over a group it is the sum over right samples of G / (number right) grad log pi, less the sum over all of
    them. Left out of all-wrong groups, the latter is no longer of mean zero: the mean update is the gradient of
    -sum_{j=1}^{G-1} (1 - P)^j / j. With ``all_wrong=-1`` it is of mean zero, and the sum goes to G (THEORY T19).

    Args:
        rewards_PG: Task rewards, 0 or more, shape [P, G].
        all_wrong: Advantage of each sample of a group without reward.

    Raises:
        InputError: a reward is negative.

    Example:
        >>> import torch
        >>> relative_to_mean(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
        [[3.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    _refuse(rewards_PG, rewards_PG < 0, "0 or more for the learner maxrl, whose advantages are over their mean")
    mean_P1 = rewards_PG.mean(dim=-1, keepdim=True)
    some = mean_P1 > 0
    return ((rewards_PG - mean_P1) / mean_P1.where(some, 1.0)).where(some, all_wrong)


def of_subsets(rewards_PG: Tensor, k: int) -> Tensor:
    """Return the mean standardised reward of the k-subsets that a sample is in (Chen 2025, pass@k training).

    A set of k of a group's G samples has reward 1 if one of them is right. Of all sets, that has mean
    m = 1 - C(w, k)/C(G, k) with w wrong samples, and standard deviation s = sqrt(m (1 - m)). A sample's advantage is
    the mean of (reward - m)/s over the sets that hold it, in closed form (equations 14 and 15):
    (1 - m)/s for a right one, (1 - m - C(w - 1, k - 1)/C(G - 1, k - 1))/s for a wrong one, 0 where s = 0.

    Args:
        rewards_PG: Task rewards, 0 or 1, shape [P, G].
        k: Size of the sets, below G; with k = G there is one set and s = 0.

    Raises:
        InputError: a reward is neither 0 nor 1.

    Example:
        >>> import torch
        >>> of_subsets(torch.tensor([[1.0, 0.0, 0.0]]), 2)
        tensor([[ 0.7071, -0.3536, -0.3536]])
    """
    G = rewards_PG.shape[-1]
    right_PG = rewards_PG == 1
    _refuse(rewards_PG, ~(right_PG | (rewards_PG == 0)), "0 or 1 for the learner pass-k, which counts right samples")
    gains = []
    for wrong in range(G, -1, -1):  # of a right and of a wrong sample, by how many are right
        none = math.comb(wrong, k) / math.comb(G, k)
        spread = math.sqrt(none * (1.0 - none))
        held = math.comb(wrong - 1, k - 1) / math.comb(G - 1, k - 1) if wrong else 0.0
        gains.append((none / spread, (none - held) / spread) if spread > 0 else (0.0, 0.0))
    gains_P2 = rewards_PG.new_tensor(gains)[right_PG.sum(dim=-1)]
    return gains_P2[..., :1].where(right_PG, gains_P2[..., 1:])


def signed(rewards_PG: Tensor, positive: float, negative: float) -> Tensor:
    """Return positive r - negative (1 - r): right and wrong samples with weights of their own (Zhu 2025).

    Args:
        rewards_PG: Task rewards from 0 to 1, shape [P, G].
        positive: Weight of right samples (PSR).
        negative: Weight of wrong ones (NSR).

    Raises:
        InputError: a reward is out of range.

    Example:
        >>> import torch
        >>> signed(torch.tensor([[1.0, 0.0]]), 0.5, 1.0).tolist()
        [[0.5, -1.0]]
    """
    wrong = ~((rewards_PG >= 0) & (rewards_PG <= 1))
    _refuse(rewards_PG, wrong, "0 to 1 for the learner w-reinforce, whose wrong samples have 1 minus the reward")
    return positive * rewards_PG - negative * (1.0 - rewards_PG)


def _refuse(rewards_PG: Tensor, where_PG: Tensor, allowed: str) -> None:
    if where_PG.any():
        raise InputError("reward", float(rewards_PG[where_PG].flatten()[0]), allowed)
