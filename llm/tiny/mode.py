"""The likeliest response of a model, exactly."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def likeliest(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], eos_id: int, longest: int
) -> list[tuple[list[int], float]]:
    """Return the mode of the model's responses to each prompt: arg max over y of log p(y | prompt).

    Best-first search. A response is at most as likely as any of its prefixes, so the first complete one to become the
    likeliest of all open prefixes is likelier than every other. Greedy decoding has no such guarantee.

    Args:
        model: A causal language model with causal attention only.
        prompts: Token ids of each prompt, all of one length.
        eos_id: The token that ends a response.
        longest: Responses of more tokens than this, end-of-sequence token included, are not looked at.

    Returns:
        For each prompt the response's token ids, with ``eos_id`` at the end, and its log-probability in nats.
    """
    # Entries (-log p, ids): the heap's first one is the likeliest prefix.
    heaps: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in prompts]
    found: list[tuple[list[int], float] | None] = [None] * len(prompts)
    while open_prompts := [place for place, mode in enumerate(found) if mode is None]:
        best = [heapq.heappop(heaps[place]) for place in open_prompts]
        grown = []
        for place, (cost, ids) in zip(open_prompts, best, strict=True):
            if ids and ids[-1] == eos_id:
                found[place] = (list(ids), -cost)
            else:
                grown.append((place, cost, ids))
        if grown:
            rows = [[*prompts[place], *ids] for place, _, ids in grown]
            for (place, cost, ids), logprob_V in zip(grown, _next_logprobs(model, rows), strict=True):
                for token, logprob in enumerate(logprob_V):
                    if len(ids) + 1 < longest or token == eos_id:
                        heapq.heappush(heaps[place], (cost - logprob, (*ids, token)))
    return [mode for mode in found if mode is not None]


@torch.no_grad()
def _next_logprobs(model: PreTrainedModel, rows: list[list[int]]) -> list[list[float]]:
    """Return the next token's log-probabilities after each row."""
    last_B = torch.tensor([len(row) - 1 for row in rows])
    width = int(last_B.max()) + 1
    # Padding on the right needs no mask: no position before it can see it.
    tokens_BL = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    logits_BLV = model(input_ids=tokens_BL.to(model.device), use_cache=False).logits
    logits_BV = logits_BLV[torch.arange(len(rows)), last_B.to(logits_BLV.device)].double()
    return logits_BV.log_softmax(-1).tolist()
