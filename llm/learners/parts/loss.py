"""Policy-gradient losses, token by token.

Axis letters: B sequences, T response positions (padded).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Mismatch(NamedTuple):
    """How far the sampling engine and the trainer disagree about the sampled tokens.

    Args:
        weights_BT: Importance weights, 1 outside the mask.
        max_error: Largest |log pi_trainer - log pi_sampler| of a token, nats.
        error_sum: Sum of |difference| over tokens.
        kl_sum: Sum of log pi_sampler - log pi_trainer over tokens, whose mean estimates KL(sampler || trainer) a token.
        max_ratio: Largest importance ratio before it is cut.
        capped: Tokens (level ``token``) or sequences (``sequence``) whose ratio met the cap.
        units: How many of them there are.
        tokens: Response tokens.
        errors_N: |difference| of each response token, on the CPU.
        difference_B: Sum over each sequence's tokens of log pi_trainer - log pi_sampler.
    """

    weights_BT: Tensor
    max_error: float
    error_sum: float
    kl_sum: float
    max_ratio: float
    capped: int
    units: int
    tokens: int
    errors_N: Tensor
    difference_B: Tensor


def importance_weights(
    trainer_BT: Tensor, sampler_BT: Tensor, mask_BT: Tensor, cap: float, level: str = "token"
) -> Mismatch:
    """Return truncated importance weights of the trainer's policy against the engine's, with statistics.

    The engine that samples and the model that is trained compute the same policy with different kernels. The truncated
    weight corrects the gradient for it (truncated importance sampling; Precup 2000 for the untruncated form):
    min(exp(d_t), cap) for each token with d = log pi_trainer - log pi_sampler, or min(exp(sum_t d_t), cap) for all
    tokens of a sequence, which is the whole correction and varies more, or 1.

    Args:
        trainer_BT: Token log-probabilities by the trainer before the update, shape [B, T], nats.
        sampler_BT: The engine's, of the distribution it sampled from, same shape.
        mask_BT: True at response tokens.
        cap: Largest weight, >= 1.
        level: ``token``, ``sequence`` or ``none``.
    """
    difference = (trainer_BT.detach() - sampler_BT).masked_fill(~mask_BT, 0.0)
    ratio = (difference.sum(dim=1, keepdim=True) if level == "sequence" else difference).exp()
    weights = ratio.clamp(max=cap) if level != "none" else ratio.new_ones(())
    counted = mask_BT if level == "token" else mask_BT.any(dim=1, keepdim=True)
    return Mismatch(
        weights.expand_as(difference).masked_fill(~mask_BT, 1.0),
        float(difference.abs().max()),
        float(difference.abs().sum()),
        -float(difference.sum()),
        float(ratio.max()),
        0 if level == "none" else int(((ratio > cap) & counted).sum()),
        int(counted.sum()),
        int(mask_BT.sum()),
        difference[mask_BT].abs().cpu(),
        difference.sum(dim=1),
    )


def aggregated(name: str, weights_BT: Tensor, length_B: Tensor) -> tuple[Tensor, int]:
    """Return the weight of each token, and what these sequences add to what the sum over tokens is divided by.

    The divisor is that of all sequences of a step, of every process, so that microbatches and processes add up.

    Args:
        name: ``token_mean``: the sum over tokens divided by the number of tokens (the paper; Yu 2025, DAPO).
            ``sequence_mean``: by the number of sequences, the gradient of J itself.
            ``response_mean``: each sequence's mean over its own tokens, then the mean over sequences, so that a token
            of a long response counts less (Shao 2024, GRPO's 1/|o_i|).
        weights_BT: Importance weights, shape [B, T].
        length_B: Response tokens of each sequence.

    Raises:
        ValueError: another name.

    Example:
        >>> import torch
        >>> aggregated("response_mean", torch.ones(2, 2), torch.tensor([1, 2]))[0].tolist()
        [[1.0, 1.0], [0.5, 0.5]]
    """
    if name == "token_mean":
        return weights_BT, int(length_B.sum())
    if name == "sequence_mean":
        return weights_BT, len(length_B)
    if name == "response_mean":
        return weights_BT / length_B.clamp(min=1)[:, None], len(length_B)
    raise ValueError(f"aggregation: got {name!r}, allowed: token_mean, sequence_mean, response_mean")


def reinforce_loss(
    logprobs_BT: Tensor, advantages_B: Tensor, weights_BT: Tensor, mask_BT: Tensor, normalizer: float
) -> Tensor:
    """Return -(1/normalizer) sum_b sum_t w_bt A_b log pi(y_bt), whose gradient is REINFORCE's (Williams 1992).

    Args:
        logprobs_BT: Token log-probabilities with gradient, shape [B, T].
        advantages_B: One advantage a sequence, constants, shape [B].
        weights_BT: Importance weights, constants, shape [B, T]; over the response's length under ``response_mean``.
        mask_BT: True at response tokens.
        normalizer: Response tokens or sequences of the whole batch, see :func:`aggregated`.
    """
    per_token = weights_BT * advantages_B[:, None] * logprobs_BT
    return -per_token.masked_fill(~mask_BT, 0.0).sum() / normalizer


def clipped_loss(
    logprobs_BT: Tensor,
    start_BT: Tensor,
    advantages_B: Tensor,
    weights_BT: Tensor,
    mask_BT: Tensor,
    normalizer: float,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return PPO's clipped surrogate (Schulman 2017), with its own upper clip as in DAPO (Yu 2025).

    -(1/normalizer) sum_b sum_t w_bt min(rho A_b, clip(rho, 1 - clip_low, 1 + clip_high) A_b),
    rho = exp(log pi(y_bt) - log pi_start(y_bt)). At the first update of a batch its gradient is REINFORCE's.

    Args:
        logprobs_BT: As for :func:`reinforce_loss`, as are the other arguments of these names.
        start_BT: Token log-probabilities before the first update on the batch, constants.
        advantages_B: See there.
        weights_BT: See there.
        mask_BT: See there.
        normalizer: See there.
        clip_low: Lower clip.
        clip_high: Upper clip.
    """
    ratio = (logprobs_BT - start_BT).masked_fill(~mask_BT, 0.0).exp()
    A = advantages_B[:, None]
    gain = (ratio * A).minimum(ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * A)
    return -(weights_BT * gain).masked_fill(~mask_BT, 0.0).sum() / normalizer


def sequence_clipped_loss(
    logprobs_BT: Tensor,
    start_BT: Tensor,
    advantages_B: Tensor,
    weights_BT: Tensor,
    mask_BT: Tensor,
    normalizer: float,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return GSPO's clipped surrogate: one ratio a sequence, the geometric mean of its tokens' (Zheng 2025, eq. 5, 7).

    s_b = exp(mean over the tokens of log pi(y_bt) - log pi_start(y_bt)), clipped as a whole. Written token by token
    (their GSPO-token, eq. 13 and 14), -(1/normalizer) sum_b sum_t w_bt min(s_bt A_b, clip(s_bt) A_b) with
    s_bt = sg(s_b) pi(y_bt) / sg(pi(y_bt)), it has that value and, under ``response_mean``, that gradient, and takes
    weights of tokens.

    Args:
        logprobs_BT: As for :func:`clipped_loss`, as are the other arguments; whole sequences.
        start_BT: See there.
        advantages_B: See there.
        weights_BT: See there.
        mask_BT: See there.
        normalizer: See there.
        clip_low: Lower clip of s_b.
        clip_high: Upper clip of s_b.
    """
    change_BT = (logprobs_BT - start_BT).masked_fill(~mask_BT, 0.0)
    mean_B1 = change_BT.detach().sum(dim=1, keepdim=True) / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    ratio = (mean_B1 + change_BT - change_BT.detach()).exp()
    A = advantages_B[:, None]
    gain = (ratio * A).minimum(ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * A)
    return -(weights_BT * gain).masked_fill(~mask_BT, 0.0).sum() / normalizer


def capped_loss(
    logprobs_BT: Tensor,
    start_BT: Tensor,
    advantages_B: Tensor,
    weights_BT: Tensor,
    mask_BT: Tensor,
    normalizer: float,
    clip_high: float,
) -> Tensor:
    """Return CISPO's loss: REINFORCE's with importance weights that are capped, not clipped (MiniMax 2025, eq. 4, 5).

    -(1/normalizer) sum_b sum_t w_bt sg(min(rho_bt, 1 + clip_high)) A_b log pi(y_bt), rho = pi / pi_start: a token
    beyond the cap goes on to have a gradient, where :func:`clipped_loss` gives it none. No lower cap, as in their runs.

    Args:
        logprobs_BT: As for :func:`clipped_loss`, as are the other arguments.
        start_BT: See there.
        advantages_B: See there.
        weights_BT: See there.
        mask_BT: See there.
        normalizer: See there.
        clip_high: The largest weight is 1 + this.
    """
    ratio = (logprobs_BT.detach() - start_BT).masked_fill(~mask_BT, 0.0).exp()
    weights = weights_BT * ratio.clamp(max=1.0 + clip_high)
    return reinforce_loss(logprobs_BT, advantages_B, weights, mask_BT, normalizer)


def kl_estimate(name: str, log_ratio: Tensor) -> Tensor:
    """Return k1 = x, k2 = x^2 / 2 or k3 = exp(-x) - 1 + x of x = log pi - log p (Schulman 2020), elementwise.

    Raises:
        ValueError: another name.
    """
    if name == "k1":
        return log_ratio
    if name == "k2":
        return 0.5 * log_ratio**2
    if name == "k3":
        return (-log_ratio).expm1() + log_ratio
    raise ValueError(f"KL estimator: got {name!r}, allowed: k1, k2, k3")


def kl_loss(
    name: str, logprobs_BT: Tensor, reference_BT: Tensor, weights_BT: Tensor, mask_BT: Tensor, normalizer: float
) -> Tensor:
    """Return (1/normalizer) sum_b sum_t w_bt k(log pi - log p) of the tokens, with the gradient through log pi.

    Token by token, as GRPO's implementations do it: the gradient leaves out what a token does to the KL of later ones.
    """
    estimate = kl_estimate(name, logprobs_BT - reference_BT)
    return (weights_BT * estimate).masked_fill(~mask_BT, 0.0).sum() / normalizer
