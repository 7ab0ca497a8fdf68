"""A training step of a large model without its weights: meta tensors, a fake process group, real code and real shapes.

What is counted is what the operations allocate, so bytes are those of a real step; numbers there are none. Ranks other
than this one do not exist: whatever they would send is taken to have arrived. Fake tensors would do the same at three
to four times the cost; what they do for meta tensors is done here: whoever asks for memory of the CPU gets none, the
fused attention kernel is chosen as on a CPU, and positions, which are looked at, are said to be those of whole rows.
Fake tensors are taken for traced ones, for which transformers makes a mask that no real step has.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, masking_utils

from sharpen.llm.distributed.sharding import shard
from sharpen.llm.distributed.world import disconnect
from sharpen.llm.models import logprobs, shared_prefix
from sharpen.llm.models.logprobs import CHUNK_LOGITS, SHARDED_FORWARD
from sharpen.llm.models.registry import REGISTRY
from sharpen.llm.models.weights import own_part, with_adapters

PROMPT = 16  # tokens of each row that are not scored
META = torch.device("meta")


class Live(TorchDispatchMode):
    """Counts bytes of storages that live, and collectives.

    Args:
        numbers: Whether tensors have numbers; without, whoever asks for memory of the CPU gets meta tensors.
    """

    def __init__(self, *, numbers: bool = False) -> None:
        super().__init__()
        self.numbers, self.counts, self.now, self.most = numbers, True, 0, 0
        self.sent: list[tuple[str, int]] = []
        self._held: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __enter__(self) -> Live:
        self._propagate = ShardingPropagator._propagate_tensor_meta_non_cached

        def propagate(*arguments: Any) -> Any:  # computes shapes by tensors that no run has
            before, self.counts = self.counts, False
            found = self._propagate(*arguments)
            self.counts = before
            return found

        ShardingPropagator._propagate_tensor_meta_non_cached = propagate  # type: ignore[method-assign]
        self._resize = torch.UntypedStorage.resize_

        def resize(storage: Any, size: int) -> Any:
            done = self._resize(storage, size)
            self.see(storage)
            return done

        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        ShardingPropagator._propagate_tensor_meta_non_cached = self._propagate  # type: ignore[method-assign]

    def see(self, storage: Any) -> None:
        key = id(storage)
        before = self._held[key][1] if key in self._held else 0
        size = storage.nbytes()
        if key not in self._held:
            self._held[key] = weakref.ref(storage, lambda _, key=key: self._gone(key)), size
        else:
            self._held[key] = self._held[key][0], size
        self.now += size - before
        self.most = max(self.most, self.now)

    def _gone(self, key: int) -> None:
        self.now -= self._held.pop(key)[1]

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if any(issubclass(kind, DTensor | AsyncCollectiveTensor) for kind in types):
            return NotImplemented  # their operations on parts come here
        options = options or {}
        if not self.numbers and options.get("device") is not None and torch.device(options["device"]).type == "cpu":
            options = {**options, "device": META}
        returned = function(*arguments, **options)
        if "c10d" in function.namespace:
            tensors = [leaf for leaf in tree_leaves(arguments) if torch.is_tensor(leaf)]
            # What is wrapped is waited for when its numbers are read, and at once where there are none.
            name = function._opname.replace("_wrap_tensor_autograd", "wait_tensor")
            if tensors and not (self.numbers and name != function._opname):
                self.sent.append((name, max(tensor.nbytes for tensor in tensors)))
        elif self.counts:
            for tensor in tree_leaves(returned):
                if torch.is_tensor(tensor) and not isinstance(tensor, DTensor):
                    self.see(tensor.untyped_storage())
        return returned


@dataclass
class Found:
    """What a step did.

    Args:
        backward: Most bytes during forward and backward pass of a microbatch that is not the step's first.
        step: Most bytes during AdamW's step.
        sent: Collectives of one microbatch and of clipping: name and bytes of the whole tensor.
        clipping: Of these, how many are clipping's.
        gradients: Shape and dtype of each gradient, all ranks' parts together.
    """

    backward: int = 0
    step: int = 0
    sent: list[tuple[str, int]] = field(default_factory=list)
    clipping: int = 0
    gradients: dict[str, tuple[torch.Size, torch.dtype]] = field(default_factory=dict)


def architecture(name: str, layers: int | None = None) -> Any:
    """Return the config of a model of the registry, with its own number of layers or another."""
    fields = dict(REGISTRY[name].architecture)
    kind = str(fields.pop("model_type"))
    if layers is not None:
        fields["num_hidden_layers"] = layers
        fields.pop("layer_types", None)
    return AutoConfig.for_model(kind, **fields)


def step(
    config: Any, *, world: int, rank: int, length: int, tokens: int, lora: Any = None, numbers: bool = False
) -> Found:
    """Return what the second of two microbatches of ``tokens`` tokens and an update do on one of ``world`` ranks.

    With ``numbers`` it is computed, which small models are for.
    """
    disconnect()
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        return _step(_model(config, lora), config, length, tokens, numbers)
    finally:
        disconnect()


def _model(config: Any, lora: Any) -> Any:
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        if lora is not None:
            model = with_adapters(model, lora.rank, lora.alpha)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    # Both compare numbers, which there are none of here; a real model of each of these families gives these answers.
    logprobs._separable[model] = True
    shared_prefix._shareable[model] = False
    shard(model, compute=torch.bfloat16)
    return model


@contextmanager
def _without_numbers() -> Iterator[None]:
    """Let a step run on tensors without numbers."""

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        enable_gqa: bool = False,
        **more: Any,
    ) -> Any:
        assert enable_gqa or query.shape[1] == key.shape[1]
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, **more)[0]

    def nothing(*_: Any) -> None:  # a mock would keep what it is called with
        return None

    with (
        META,
        mock.patch.object(FSDPParamGroup, "_validate_no_meta_params", nothing),
        mock.patch.object(masking_utils, "find_packed_sequence_indices", nothing),
        mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", attention),
    ):
        yield


def _step(model: Any, config: Any, length: int, tokens: int, numbers: bool) -> Found:
    found = Found()
    with nullcontext() if numbers else _without_numbers(), Live(numbers=numbers) as live:
        model.to_empty(device="cpu" if numbers else META)
        for tensor in (*model.parameters(), *model.buffers()):
            live.see(own_part(tensor).untyped_storage())
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        parts = {name: torch.nn.Parameter(own_part(weight)) for name, weight in trained.items()}
        optimizer = torch.optim.AdamW(parts.values(), foreach=True)  # as on GPUs: all weights together
        for part in parts.values():
            zeros = {moment: torch.zeros_like(part) for moment in ("exp_avg", "exp_avg_sq")}
            optimizer.state[part] = {"step": torch.tensor(1.0, device="cpu"), **zeros}
        for weight in trained.values():  # as an earlier microbatch leaves them
            weight.grad = DTensor.from_local(
                torch.zeros_like(own_part(weight)), weight.device_mesh, weight.placements, run_check=False
            )
        live.most = live.now
        _pass(model, config, length, tokens)
        found.backward = live.most
        live.counts = False
        sent = len(live.sent)
        gradients = [weight.grad for weight in trained.values()]
        norm = torch.nn.utils.get_total_norm(gradients)
        norm.full_tensor()  # type: ignore[attr-defined]
        torch.nn.utils.clip_grads_with_norm_(list(trained.values()), 1.0, norm)
        found.sent, found.clipping = list(live.sent), len(live.sent) - sent
        live.counts = True
        for name, weight in trained.items():
            assert weight.grad is not None
            found.gradients[name] = weight.grad.shape, weight.grad.dtype
            parts[name].grad = own_part(weight.grad)
        live.most = live.now
        optimizer.step()
        found.step = live.most
    return found


def _pass(model: Any, config: Any, length: int, tokens: int) -> None:
    rows = tokens // length
    scored = rows * (length - PROMPT)
    place = torch.zeros(scored, dtype=torch.long)
    statistics, _ = getattr(model, SHARDED_FORWARD)(
        torch.zeros(rows, length, dtype=torch.long),
        *(place, place, place),
        temperature=1.0,
        with_entropy=False,
        chunk=CHUNK_LOGITS // config.vocab_size,
    )
    statistics.sum().backward()
