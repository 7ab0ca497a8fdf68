"""Passes in bfloat16 in one process: the model holds rounded weights, the optimizer float32 ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class MasterWeights:
    """The float32 weights of a model that computes in less precision; what the optimizer updates.

    Rounding them anew after each update, and not the update itself, is what lets small steps add up: bfloat16 has eight
    bits, so that a change of less than one part in 256 of a weight would be lost (Micikevicius 2018, section 3.1). Each
    backward pass adds a weight's gradient to its master's in float32 and frees it. FSDP2 does the same for sharded
    models; here the graph of a pass can be kept for the update.

    Args:
        model: What computes; every weight of it is trained.
        precise: Its weights by name, before they were rounded. They become the masters.
    """

    def __init__(self, model: Any, precise: Mapping[str, Tensor]) -> None:
        self._pairs: dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]] = {}
        for name, weight in model.named_parameters():
            master = torch.nn.Parameter(precise[name].detach().float())
            self._pairs[name] = (weight, master)
            weight.register_post_accumulate_grad_hook(_into(master))

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield the masters by the names that they have in the model."""
        for name, (_, master) in self._pairs.items():
            yield name, master

    def round(self) -> None:
        """Give the model the masters' values, rounded."""
        with torch.no_grad():
            for weight, master in self._pairs.values():
                weight.copy_(master)


def _into(master: torch.nn.Parameter) -> Any:
    def move(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return move
