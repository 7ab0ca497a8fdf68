"""What a resumed run needs besides the policy's files, whole on the CPU, whether it was trained sharded or not.

A checkpoint of any number of processes can be continued by any other number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpen.llm.distributed.world import World
from sharpen.llm.models.finite import NonFiniteError, listed, non_finite
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.weights import gathered, own_part
from sharpen.llm.training.offload import present
from sharpen.objective import InputError

Tensors = dict[str, Tensor]


def parameters(model: Any, *, keep: bool, trained_only: bool = False) -> Tensors:
    """Return the parameters by name, whole and on the CPU.

    Args:
        model: Sharded or not; a collective if sharded.
        keep: Whether this process wants them; the others get nothing.
        trained_only: Only those that are trained.
    """
    named = model.named_parameters()
    return _on_cpu({name: weight for name, weight in named if weight.requires_grad or not trained_only}, keep)


def require_finite_policy(model: Any, prompt: list[int], world: World) -> None:
    """Refuse a policy that is not fit to be kept. Every process has to call it.

    Args:
        model: Sharded or not.
        prompt: Tokens that it has to give a probability to: finite weights may still be too large for its passes.
        world: The processes that train together.

    Raises:
        NonFiniteError: a weight, or a log-probability of the prompt repeated, is NaN or infinite.
    """
    bad = set(world.gather(non_finite(model.named_parameters())))
    if bad:
        raise NonFiniteError("weights", f"in {listed(bad)}")
    token_logprobs(model, [prompt], [prompt], micro_batch_tokens=2 * len(prompt))


def optimizer_state(optimizer: torch.optim.Optimizer, model: Any, *, keep: bool) -> Tensors:
    """Return the optimizer's tensors as ``parameter|entry``, whole and on the CPU; see :func:`parameters`."""
    found: Tensors = {}
    for name, weight in model.named_parameters():
        for entry, tensor in sorted(optimizer.state.get(weight, {}).items()):
            if tensor is None:  # SGD without momentum keeps no average
                continue
            with present(optimizer, tensor):  # one at a time, where they make room for the engine
                found |= _on_cpu({f"{name}|{entry}": tensor}, keep)
    return found


def load_parameters(model: Any, tensors: Mapping[str, Tensor], where: str, *, trained_only: bool = False) -> None:
    """Copy whole parameters into the model, sharded or not.

    Raises:
        InputError: names or shapes are not this model's.
    """
    wanted = {name: weight for name, weight in model.named_parameters() if weight.requires_grad or not trained_only}
    _same_names(wanted, tensors, where)
    with torch.no_grad():
        for name, weight in wanted.items():
            if weight.shape != tensors[name].shape:
                raise _foreign(where, f"{name} has shape {list(tensors[name].shape)} instead of {list(weight.shape)}")
            own_part(weight).copy_(own_part(_like(tensors[name], weight)))


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, model: Any, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Give the optimizer the state that :func:`optimizer_state` returned.

    Raises:
        InputError: names are not those of this model's parameters.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    keeps = any(group.get("momentum", 1.0) for group in optimizer.param_groups)  # AdamW's groups have none
    found = {name.rpartition("|")[0]: tensor for name, tensor in tensors.items()}
    _same_names(trained if keeps else {}, found, where)
    optimizer.state.clear()
    for name, tensor in tensors.items():
        parameter, _, entry = name.rpartition("|")
        weight = trained[parameter]
        optimizer.state[weight][entry] = _like(tensor, weight) if tensor.shape == weight.shape else tensor.clone()


def _on_cpu(tensors: Mapping[str, Tensor], keep: bool) -> Tensors:
    found: Tensors = {}
    for name, tensor in tensors.items():
        whole = gathered(tensor)  # every process takes part, also those that do not keep it
        if keep:
            found[name] = whole.to("cpu", copy=True)
    return found


def _like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return the tensor on the weight's device, in its dtype, divided as it is divided."""
    local = tensor.to(device=weight.device, dtype=weight.dtype)
    if not hasattr(weight, "placements"):
        return local.clone()
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(local, weight.device_mesh, weight.placements)  # type: ignore[attr-defined]


def _same_names(wanted: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    strange = sorted(wanted.keys() ^ found.keys())
    if strange:
        raise _foreign(where, f"{len(strange)} parameters do not match, for example {strange[0]}")


def _foreign(where: str, why: str) -> InputError:
    return InputError("checkpoint", where, f"one of this model ({why})")
