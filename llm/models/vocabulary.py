"""Log-probabilities and entropies of tokens from their logits, a few rows at a time on a CPU.

There a vocabulary's worth of numbers for each token is soon larger than the caches, and each operation on all of them
asks the system for new memory. Rows are independent, so a few at a time give the same numbers, bit by bit, in about a
quarter of the time (SmolLM2's 49,152 tokens); and a gradient that is written at once, d log softmax(l)_t / dl =
(1_t - softmax(l)) / temperature, needs none of the arrays that autograd would keep.

Axis letters: K tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

PART = 2**19  # logits at a time: 2 MiB of float32 numbers


def statistics(
    logits_KV: torch.Tensor, token_K: torch.Tensor, temperature: float, with_entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log softmax(logits / temperature) at each row's token, and each row's entropy in nats, without gradient.

    In float32, or in float64 for float64 logits. The entropies are zeros unless asked for.

    Example:
        >>> logprob, entropy = statistics(torch.zeros(1, 4), torch.tensor([2]), 1.0, True)
        >>> round(float(logprob), 4), round(float(entropy), 4)  # -log 4, log 4
        (-1.3863, 1.3863)
    """
    if logits_KV.device.type != "cpu":
        return _statistics(logits_KV, token_K, temperature, with_entropy)
    return _ByParts.apply(logits_KV, token_K, temperature, with_entropy)  # type: ignore[no-any-return]


def _statistics(
    logits_KV: torch.Tensor, token_K: torch.Tensor, temperature: float, with_entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    logits_KV = _precise(logits_KV, temperature)
    log_z_K = torch.logsumexp(logits_KV, dim=-1)
    logprob_K = logits_KV.gather(-1, token_K[:, None])[:, 0] - log_z_K
    if not with_entropy:
        return logprob_K, torch.zeros_like(logprob_K)
    with torch.no_grad():
        entropy_K = log_z_K - (torch.softmax(logits_KV, dim=-1) * logits_KV).sum(-1)
    return logprob_K, entropy_K


class _ByParts(torch.autograd.Function):
    """The same, with a gradient that is computed from the logits again."""

    @staticmethod
    def forward(
        ctx: Any, logits_KV: torch.Tensor, token_K: torch.Tensor, temperature: float, with_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = [_statistics(logits_KV[rows], token_K[rows], temperature, with_entropy) for rows in _parts(logits_KV)]
        logprob_K, entropy_K = (torch.cat(column) for column in zip(*found, strict=True))
        ctx.save_for_backward(logits_KV, token_K)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_K)
        return logprob_K, entropy_K

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides the name of ctx
        ctx: Any, *grad_outputs: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        slope_K, _ = grad_outputs
        logits_KV, token_K = ctx.saved_tensors
        gradient_KV = torch.empty_like(logits_KV)
        for rows in _parts(logits_KV):
            slope_K1 = slope_K[rows, None] / ctx.temperature
            part_KV = torch.softmax(_precise(logits_KV[rows], ctx.temperature), dim=-1).mul_(-slope_K1)
            gradient_KV[rows] = part_KV.scatter_add_(-1, token_K[rows, None], slope_K1)
        return gradient_KV, None, None, None


def _precise(logits_KV: torch.Tensor, temperature: float) -> torch.Tensor:
    logits_KV = logits_KV if logits_KV.dtype == torch.float64 else logits_KV.float()
    return logits_KV if temperature == 1 else logits_KV / temperature


def _parts(logits_KV: torch.Tensor) -> Iterator[slice]:
    """Yield the rows in parts, one of them empty where there are none."""
    rows, size = logits_KV.shape
    count = max(1, PART // size)
    for start in range(0, max(1, rows), count):
        yield slice(start, start + count)
