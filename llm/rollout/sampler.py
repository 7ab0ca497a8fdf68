"""One step of sampling: logits and uniform numbers in, tokens and their log-probabilities out."""

from __future__ import annotations

import torch


def sampling_logprobs(logits_RV: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Return log-probabilities [R, V] (float32 or wider) of the distribution that tokens are sampled from.

    softmax(logits / temperature), cut to the nucleus (the fewest likeliest tokens whose mass is at least ``top_p``)
    and renormalised. Temperature 0 returns the model's own, at temperature 1 and without a nucleus.
    """
    logits_RV = logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()
    if temperature == 0:
        return torch.log_softmax(logits_RV, dim=-1)
    if temperature != 1:
        logits_RV = logits_RV / temperature
    logprobs_RV = torch.log_softmax(logits_RV, dim=-1)
    if top_p < 1:
        sorted_RV, order_RV = logprobs_RV.sort(dim=-1, descending=True)
        mass_before_RV = sorted_RV.exp().cumsum(dim=-1) - sorted_RV.exp()
        outside_RV = torch.zeros_like(logprobs_RV, dtype=torch.bool)
        # The likeliest token stays, also where rounding puts the mass before it at top_p.
        outside_RV.scatter_(-1, order_RV[:, 1:], mass_before_RV[:, 1:] >= top_p)
        logprobs_RV = torch.log_softmax(logprobs_RV.masked_fill(outside_RV, -torch.inf), dim=-1)
    return logprobs_RV


def sample(
    logits_RV: torch.Tensor, uniform_R: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens [R] and their log-probabilities [R] by inverting the cumulative distribution.

    Where the logits are no distribution (a NaN or +inf among them) the log-probability is NaN.

    Args:
        logits_RV: The model's logits.
        uniform_R: float64 numbers in [0, 1), one a row, so that a row's token depends on no other row.
        temperature: See :class:`sharpen.llm.rollout.types.Sampling`; 0 takes the first of the likeliest tokens.
        top_p: Likewise.
    """
    logprobs_RV = sampling_logprobs(logits_RV, temperature, top_p)
    if temperature == 0:
        token_R1 = logprobs_RV.argmax(dim=-1, keepdim=True)
    else:
        # float64: with a vocabulary of 10^5 tokens, float32 partial sums would move the likelihood of rare tokens.
        cdf_RV = logprobs_RV.double().exp().cumsum(dim=-1)
        total_R1 = cdf_RV[:, -1:]
        token_R1 = torch.searchsorted(cdf_RV, uniform_R[:, None] * total_R1, right=True)
        # Rounding may make uniform * total = total; the last token with any mass is then the right one.
        token_R1 = torch.minimum(token_R1, torch.searchsorted(cdf_RV, total_R1.contiguous()))
        token_R1 = token_R1.clamp(max=cdf_RV.shape[1] - 1)  # NaN has no place; its log-probability tells the caller
    return token_R1[:, 0], logprobs_RV.gather(-1, token_R1)[:, 0]
