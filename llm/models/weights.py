"""A policy's weights as the plain model of its architecture has them, whatever it is trained as."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def full_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the value of every weight, one at a time.

    A sharded weight is gathered (a collective: all processes have to ask), and a LoRA adapter is added to the weight it
    adapts, without changing the model. Weights that are stored under two names (tied) come under both.
    """
    if hasattr(model, "peft_config"):
        yield from _merged(model)
        return
    for name, weight in model.state_dict().items():
        yield name, gathered(weight)


def gathered(weight: Tensor) -> Tensor:
    """Return a weight whole, also if it is sharded, where the processes gather: not where offloading keeps shards."""
    if not hasattr(weight, "full_tensor"):
        return weight.detach()
    part: Any = weight.detach()
    return part.to(mesh_device(part)).full_tensor()


def compute_device(model: Any) -> torch.device:
    """Return where the model's passes run: where its weights are, or where they go for a pass if it is offloaded."""
    weight = next(model.parameters())
    return mesh_device(weight) if hasattr(weight, "device_mesh") else weight.device


def mesh_device(weight: Any) -> torch.device:
    """Return the device on which this process takes part in gathering a sharded weight."""
    kind = weight.device_mesh.device_type
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)


def own_part(weight: Any) -> Tensor:
    """Return this process's part of a weight, all of one that is not divided; it shares the weight's memory."""
    part = getattr(weight, "to_local", None)
    return weight.detach() if part is None else part().detach()


def without_adapters(model: Any) -> Any:
    """Return the model of transformers that a policy is, inside its LoRA adapters if it has any."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _merged(model: Any) -> Iterator[tuple[str, Tensor]]:
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    adapted = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    for name, weight in base.state_dict().items():
        if ".lora_" in name:
            continue
        owner, _, leaf = name.rpartition(".base_layer.")
        if not owner:
            yield name, gathered(weight)
        else:
            whole = gathered(weight)
            yield f"{owner}.{leaf}", whole + _delta(adapted[owner], whole) if leaf == "weight" else whole


def _delta(layer: Any, weight: Tensor) -> Tensor:
    """Return scaling B A of the active adapters, in the weight's shape and dtype."""
    total = torch.zeros_like(weight)
    for adapter in layer.active_adapters:
        product = gathered(layer.lora_B[adapter].weight) @ gathered(layer.lora_A[adapter].weight)
        total += (product.T if layer.fan_in_fan_out else product) * layer.scaling[adapter]
    return total


def is_plain(model: Any) -> bool:
    """Return whether the model's own weights are the policy's: neither divided nor adapted."""
    divided = any(hasattr(weight, "full_tensor") for weight in model.parameters())
    return not divided and not hasattr(model, "peft_config")


def copy_of(model: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
    """Return a copy of a plain model, its parameters in ``dtype`` on ``device`` (None: as they are).

    Only floating-point parameters are cast, as ``from_pretrained(dtype=...)`` and FSDP2's mixed precision do: buffers
    such as the rotary embedding's frequencies stay as precise as the model computed them, which
    ``deepcopy(model).to(dtype)`` would round. So a copy computes what the model computes in that dtype, bit by bit.
    Parameters under two names (tied) stay one, and no second copy in the model's own dtype ever exists.
    """
    copies: dict[int, Any] = {}
    for weight in model.parameters():
        kind = dtype if weight.is_floating_point() else None
        value = weight.detach().to(device=device, dtype=kind, copy=True)
        copies[id(weight)] = torch.nn.Parameter(value, requires_grad=weight.requires_grad)
    for buffer in model.buffers():
        copies[id(buffer)] = buffer.detach().to(device=device, copy=True)
    clone = copy.deepcopy(model, copies)
    if dtype is not None:
        clone.config.dtype = dtype
    return clone


def with_adapters(model: Any, rank: int, alpha: float) -> Any:
    """Return the model with a LoRA adapter on every linear layer but the head; only these are trained.

    Args:
        model: Plain.
        rank: Of each adapter.
        alpha: The adapter is scaled by alpha / rank.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")  # type: ignore[arg-type]
    return get_peft_model(model, lora)
