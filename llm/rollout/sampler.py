"""One step of sampling: logits and uniform numbers in, tokens and their log-probabilities out."""

from __future__ import annotations

import torch

# Vocabularies from which on the cumulative distribution is searched in two levels, and the tokens of a block of it.
WIDE, BLOCK = 8192, 256
# Logits that are worked on at a time on a CPU, rows of them: what fits its caches, and needs no new memory each time.
# 64 rows of 49,152 tokens take .4 times as long as all at once, with the same bits.
PART = 2**19


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
        uniform_R: float64 numbers in [0, 1), one per row, so that a row's token depends on no other row.
        temperature: See :class:`sharpen.llm.rollout.types.Sampling`; 0 takes the first of the likeliest tokens.
        top_p: Likewise.
    """
    rows, width = logits_RV.shape
    few = max(1, PART // width)
    if rows <= few or logits_RV.device.type != "cpu":
        return _sample(logits_RV, uniform_R, temperature, top_p)
    parts = zip(logits_RV.split(few), uniform_R.split(few), strict=True)
    found = [_sample(*part, temperature, top_p) for part in parts]
    token_R, logprob_R = (torch.cat(column) for column in zip(*found, strict=True))
    return token_R, logprob_R


def _sample(
    logits_RV: torch.Tensor, uniform_R: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs_RV = sampling_logprobs(logits_RV, temperature, top_p)
    if temperature == 0:
        token_R1 = logprobs_RV.argmax(dim=-1, keepdim=True)
    else:
        find = _found_in_blocks if logprobs_RV.shape[1] >= WIDE else _found
        token_R1 = find(logprobs_RV, uniform_R[:, None])
    return token_R1[:, 0], logprobs_RV.gather(-1, token_R1)[:, 0]


def _found(logprobs_RV: torch.Tensor, uniform_R1: torch.Tensor) -> torch.Tensor:
    """Return the token of each row [R, 1] at which the cumulative distribution passes the row's number."""
    # float64: with a vocabulary of 10^5 tokens, float32 partial sums would move the likelihood of rare tokens.
    return _passed(logprobs_RV.double().exp(), uniform_R1)


def _found_in_blocks(logprobs_RV: torch.Tensor, uniform_R1: torch.Tensor) -> torch.Tensor:
    """Do the same by first finding a block of tokens, then the token in it.

    Only the blocks' masses and one block a row are summed in float64; the whole vocabulary of 64 rows and 49,152 tokens
    takes four times as long (benchmarks/real.py's model). The masses are sums of float32, so a block's likelihood is
    off by a relative 1e-7, and by that only its tokens' are: within it the number is scaled to the block's own sum.
    """
    rows, width = logprobs_RV.shape
    blocks = -(-width // BLOCK)
    spare = blocks * BLOCK - width
    padded_RV = torch.nn.functional.pad(logprobs_RV, (0, spare), value=-torch.inf) if spare else logprobs_RV
    logprobs_RKB = padded_RV.view(rows, blocks, BLOCK)
    mass_RK = logprobs_RKB.exp().sum(dim=-1).double()
    block_R1 = _passed(mass_RK, uniform_R1)
    here_R1 = mass_RK.gather(-1, block_R1)
    before_R1 = mass_RK.cumsum(dim=-1).gather(-1, block_R1) - here_R1
    within_R1 = ((uniform_R1 * mass_RK.sum(dim=-1, keepdim=True) - before_R1) / here_R1).clamp(0, 1)
    own_RB = logprobs_RKB[torch.arange(rows, device=block_R1.device), block_R1[:, 0]]
    return (block_R1 * BLOCK + _passed(own_RB.double().exp(), within_R1)).clamp(max=width - 1)


def _passed(mass_RK: torch.Tensor, uniform_R1: torch.Tensor) -> torch.Tensor:
    """Return the place of each row [R, 1] at which the cumulative sum of its masses passes a share of their total."""
    cdf_RK = mass_RK.cumsum(dim=-1)
    total_R1 = cdf_RK[:, -1:]
    place_R1 = torch.searchsorted(cdf_RK, uniform_R1 * total_R1, right=True)
    # Rounding may make uniform * total = total; the last place with any mass is then the right one.
    place_R1 = torch.minimum(place_R1, torch.searchsorted(cdf_RK, total_R1.contiguous()))
    return place_R1.clamp(max=mass_RK.shape[1] - 1)  # NaN has no place; its log-probability tells the caller
