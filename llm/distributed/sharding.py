"""FSDP2: weights, gradients and optimizer state divided over the processes, gathered a block at a time."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

import torch

from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import SHARDED_FORWARD, head_is_separable, token_statistics
from sharpen.llm.models.shared_prefix import prefix_is_shareable


def shard(model: Any, *, compute: torch.dtype, offload: bool = False) -> None:
    """Divide the model over the processes of the group, in place.

    Weights keep their dtype as the master copy that the optimizer updates; forward and backward passes run in
    ``compute``, and gradients are summed in float32. Every decoder layer is one unit; embedding and head are another.

    Args:
        model: A causal language model of transformers, with or without LoRA adapters.
        compute: Dtype of the passes, for example bfloat16.
        offload: Keep the shards in the machine's memory between uses (for a reference model).
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    head_is_separable(model)  # both tried while the weights are whole; the answers are remembered
    prefix_is_shareable(model)
    options: dict[str, Any] = {"mp_policy": MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)}
    if offload:
        options["offload_policy"] = CPUOffloadPolicy()
    # Without it embedding and head would stay whole after a pass, and the model's parameters would be plain tensors.
    options["reshard_after_forward"] = True
    for layer in decoder_layers(model):
        fully_shard(layer, **options)
    fully_shard(model, **options)
    setattr(model, SHARDED_FORWARD, types.MethodType(token_statistics, model))
    register_fsdp_forward_method(model, SHARDED_FORWARD)


def average_gradients(weights: Iterable[torch.Tensor], world: World) -> None:
    """Replace the gradients of a model that every process has whole by their mean over the processes, in place.

    What FSDP2 does for a divided one. Every process has to call it, with the same weights.
    """
    if world.size == 1:
        return
    import torch.distributed as dist

    waiting = []
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad /= world.size
        waiting.append(dist.all_reduce(weight.grad, async_op=True))
    for handle in waiting:
        handle.wait()


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """Return the blocks of the decoder: the members of its longest list of modules of one class."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    alike = [list(found) for found in lists if len({type(module) for module in found}) == 1]
    return max(alike, key=len, default=[])


def is_sharded(model: Any) -> bool:
    """Return whether :func:`shard` was here."""
    return hasattr(model, SHARDED_FORWARD)
