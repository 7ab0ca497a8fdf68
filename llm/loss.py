"""The policy-gradient loss.

Axis letters: B sequences, T response positions (padded).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Mismatch(NamedTuple):
    """How far the sampling engine and the trainer disagree about the sampled tokens."""

    weights_BT: Tensor
    max_error: float
    mean_error: float
    share_capped: float


def importance_weights(trainer_BT: Tensor, sampler_BT: Tensor, mask_BT: Tensor, cap: float) -> Mismatch:
    """Return min(exp(log pi_trainer - log pi_sampler), cap) for each token, with statistics over the mask.

    The engine that samples and the model that is trained compute the same policy with different kernels. The truncated
    weight corrects the gradient for it (truncated importance sampling; Precup 2000 for the untruncated form).

    Args:
        trainer_BT: Token log-probabilities by the trainer before the update, shape [B, T], nats.
        sampler_BT: The engine's, of the distribution it sampled from, same shape.
        mask_BT: True at response tokens.
        cap: Largest weight, >= 1.

    Returns:
        Weights of shape [B, T] (1 outside the mask), the largest and mean |difference| and the share of capped tokens.
    """
    difference = (trainer_BT.detach() - sampler_BT).masked_fill(~mask_BT, 0.0)
    ratio = difference.exp()
    tokens = mask_BT.sum()
    error = difference.abs()
    return Mismatch(
        ratio.clamp(max=cap),
        float(error.max()),
        float(error.sum() / tokens),
        float(((ratio > cap) & mask_BT).sum() / tokens),
    )


def reinforce_loss(
    logprobs_BT: Tensor, advantages_B: Tensor, weights_BT: Tensor, mask_BT: Tensor, normalizer: float
) -> Tensor:
    """Return -(1/normalizer) sum_b sum_t w_bt A_b log pi(y_bt), whose gradient is REINFORCE's (Williams 1992).

    Args:
        logprobs_BT: Token log-probabilities with gradient, shape [B, T].
        advantages_B: One advantage a sequence, constants, shape [B].
        weights_BT: Importance weights, constants, shape [B, T].
        mask_BT: True at response tokens.
        normalizer: Response tokens of the whole batch (``token_mean``, the paper) or its sequences
            (``sequence_mean``, the gradient of J itself); the whole batch's, so that microbatches add up.
    """
    per_token = weights_BT * advantages_B[:, None] * logprobs_BT
    return -per_token.masked_fill(~mask_BT, 0.0).sum() / normalizer
