"""Copying a policy's weights into an engine's model, with sums that say whether they arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpen.llm.models.weights import full_weights

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Loaded(NamedTuple):
    """What a push did.

    Args:
        missing: Names of the engine's parameters that nothing was copied into.
        pushed: Sum over the bits of the weights that were sent.
        held: Sum over the bits of the weights that the engine's model has now.
    """

    missing: set[str]
    pushed: int
    held: int


def load(module: Any, model: Any) -> Loaded:
    """Copy the weights of ``model``, whatever it is trained as, into vLLM's ``module``, through vLLM's own loader.

    The loader joins some weights (queries, keys and values) and pads others with zeros. Neither changes the sum over
    bits, which therefore says that every bit arrived, and arrived once.
    """
    dtype = next(module.parameters()).dtype
    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    total = 0

    def weights() -> Iterator[tuple[str, Tensor]]:
        nonlocal total
        for name, weight in full_weights(model):
            cast = weight.to(dtype) if weight.is_floating_point() else weight
            if not (tied and name.startswith("lm_head.")):  # the embedding's, which was counted
                total += bit_sum(cast)
            yield name, cast

    loaded = module.load_weights(weights())
    missing = {name for name, _ in module.named_parameters()} - set(loaded or ())
    return Loaded(missing, total % 2**64, sum(bit_sum(weight) for weight in module.parameters()) % 2**64)


def bit_sum(tensor: Tensor) -> int:
    """Return the sum of the elements' bits read as integers: exact, and the same in any order.

    Example:
        >>> bit_sum(torch.tensor([1.0, 2.0])) == bit_sum(torch.tensor([2.0, 0.0, 1.0]))
        True
    """
    flat = tensor.detach().contiguous()
    return int(flat.view(_INTEGERS[flat.element_size()]).sum(dtype=torch.int64))
