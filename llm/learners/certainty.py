"""Self-certainty: how far a policy's next-token distributions are from uniform."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sharpen.llm.models.logprobs import CHUNK_LOGITS, make_batches
from sharpen.llm.models.weights import compute_device


def self_certainty(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    same_passes: Callable[[int], int] = lambda count: count,
    chunk_logits: int = CHUNK_LOGITS,
) -> list[float]:
    """Return the mean over each response's tokens of KL(U || pi(. | prompt, tokens before)), nats.

    KL(U || pi) = -log V - (1/V) sum_v log pi(v), with U uniform over the vocabulary of V tokens (Kang 2025, arXiv
    2502.18581). It is 0 for a uniform policy, without bound, and, unlike an entropy, ruled by the least likely tokens.

    Args:
        model: A causal language model of transformers, sharded or not.
        prompt_ids: R prompts, none empty.
        response_ids: R responses; an empty one has certainty 0.
        same_passes: The largest number of passes that any process makes, given this one's; a sharded model's
            processes have to make equally many.
        chunk_logits: Most logits that a pass makes, unless one row needs more.
    """
    vocabulary = model.config.get_text_config().vocab_size
    batches = make_batches(
        prompt_ids,
        response_ids,
        micro_batch_tokens=max(1, chunk_logits // vocabulary),
        device=compute_device(model),
    )
    certainty_R = [0.0] * len(response_ids)
    with torch.no_grad():
        for place in range(same_passes(len(batches))):
            batch = batches[min(place, len(batches) - 1)]
            logits_BLV = model(input_ids=batch.tokens_BL, use_cache=False).logits
            for row, own, logits_LV in zip(batch.rows, range(len(batch.rows)), logits_BLV, strict=True):
                first, count = int(batch.prompt_length_B[own]) - 1, int(batch.response_length_B[own])
                if count:
                    logprob_TV = torch.log_softmax(logits_LV[first : first + count].float(), dim=-1)
                    certainty_R[row] = float(-math.log(vocabulary) - logprob_TV.mean())
    return certainty_R
