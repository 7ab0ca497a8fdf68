"""Everything that a training run needs before its first step: model, tokenizer, engine, reference, shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpen.llm.configs.targets import template_of
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.distributed import world as processes
from sharpen.llm.distributed.placement import check_processes, is_sharded_run, placement
from sharpen.llm.distributed.world import World
from sharpen.llm.models.registry import ModelSource, check_device, load_architecture, load_model, load_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from sharpen.llm.distributed.memory import Memory
    from sharpen.llm.rollout import Engine
    from sharpen.llm.training.master import MasterWeights
    from sharpen.llm.training.reference import Reference


@dataclass
class Setup:
    """What training and evaluation share.

    Args:
        source: Where the model came from.
        model: The policy as it is trained: sharded, with adapters, or plain.
        tokenizer: The model's.
        engine: Samples from the policy.
        reference: The reference policy.
        template: Prompt template.
        compute: Dtype of the passes, a torch dtype.
        device: ``cpu`` or ``cuda``.
        world: The processes that train together.
        master: The float32 weights of a model that computes in less precision and is not sharded.
        optimizer_leaves: Whether the optimizer's state makes room for the engine while it samples.
    """

    source: ModelSource
    model: Any
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    reference: Reference
    template: str
    compute: torch.dtype
    device: str
    world: World
    master: MasterWeights | None = None
    optimizer_leaves: bool = False


def prepare(config: TrainConfig, source: ModelSource, world: World) -> Setup:
    """Load the model, start the engine and divide the weights as ``config`` asks.

    The weights are loaded in float32, the master copy that the optimizer updates. Where they are to be divided they
    stay on the CPU until then, so that no GPU ever holds all of them in float32. Where one process computes in bfloat16
    and nothing is divided, the model is a rounded copy of them (``master.py``), and the transformers engine samples
    from that very copy.

    Raises:
        InputError: the model cannot be loaded, or the processes cannot share the work.
    """
    import torch

    from sharpen.llm.models.weights import copy_of, with_adapters
    from sharpen.llm.rollout.recovery import ResilientEngine
    from sharpen.llm.training.master import MasterWeights
    from sharpen.llm.training.reference import make_reference

    device, dtype = placement(config)
    check_device(device, world.local_rank)
    check_processes(config, world)
    divided = is_sharded_run(config, world, dtype)
    if divided or world.size > 1:
        processes.connect(world, device, config.process_timeout)
    torch.manual_seed(config.seed)
    compute: torch.dtype = getattr(torch, dtype)
    tokenizer = load_tokenizer(source)
    plain: Any = load_model(source, "cpu" if divided else device, "float32")
    master: MasterWeights | None = None
    if compute != torch.float32 and not divided:
        precise, plain = dict(plain.named_parameters()), copy_of(plain, dtype=compute)
        master = MasterWeights(plain, precise) if config.lora is None else None  # adapters are float32 themselves
        del precise
    # A sharded or adapted policy cannot generate by itself: the engine then samples from a copy.
    # Nor is a policy sampled that is being updated meanwhile.
    apart = divided or config.lora is not None or config.sample_ahead > 0
    planned = _planned(config, source, world, device, dtype, divided)
    copies = iter([copy_of(plain, dtype=compute, device=device) if apart else plain])

    def start() -> Engine:
        # One that replaces a dead one is made of the base model again; the current weights are pushed to it.
        sampler = next(copies, None)
        if sampler is None:
            sampler = load_model(source, device, dtype)
        return _engine(config, source, sampler, tokenizer, dtype, world, planned)

    engine = ResilientEngine(start, world, config.engine_restarts)
    model = plain if config.lora is None else with_adapters(plain, config.lora.rank, config.lora.alpha)
    engine.follow(model)
    reference = make_reference(config.objective, model, dtype=compute if divided else None)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only
    if divided:
        _divide(model, reference, config, compute, device)
    template = template_of(config, source)
    leaves = config.optimizer_offload == "always" or (planned is not None and planned.optimizer_leaves)
    return Setup(source, model, tokenizer, engine, reference, template, compute, device, world, master, leaves)


def _planned(
    config: TrainConfig, source: ModelSource, world: World, device: str, dtype: str, divided: bool
) -> Memory | None:
    """Return what the dry run says about this GPU; None where vLLM does not share it with the trainer."""
    from sharpen.llm.distributed.memory import estimate, shape_of
    from sharpen.llm.preflight.machine import memory
    from sharpen.llm.rollout import vllm_available

    if device != "cuda" or config.engine == "transformers" or not vllm_available():
        return None
    run: dict[str, Any] = {"processes": world.size, "device": device, "dtype": dtype, "divided": divided}
    return estimate(config, shape_of(load_architecture(source), config.lora), **run, gpu_memory=memory(device))


def _engine(
    config: TrainConfig,
    source: ModelSource,
    sampler: Any,
    tokenizer: Any,
    dtype: str,
    world: World,
    planned: Memory | None,
) -> Engine:
    """Start an engine that samples from ``sampler``'s weights; vLLM keeps a copy of its own."""
    from sharpen.llm.rollout import make_engine
    from sharpen.llm.rollout.shared import SharedEngine

    engine = make_engine(
        config.engine,
        model=sampler,
        location=source.location,
        max_length=config.max_length,
        seed=config.seed,
        tokenizer=tokenizer,
        dtype=dtype,
        memory_share=config.engine_memory,
        tensor_parallel=config.tensor_parallel,
        sleeps=config.engine_sleep,
        rows=None if planned is None else planned.engine_rows,
        cache_bytes=None if planned is None else planned.kv_cache,
        copies=config.sample_ahead > 0,
    )
    return engine if config.tensor_parallel == 1 else SharedEngine(engine, world, config.tensor_parallel)


def _divide(model: Any, reference: Reference, config: TrainConfig, compute: torch.dtype, device: str) -> None:
    from sharpen.llm.distributed.sharding import shard
    from sharpen.llm.training.reference import Copy

    shard(model, compute=compute)
    if isinstance(reference, Copy):
        offload = config.reference_offload and device == "cuda"
        shard(reference.copy_of_policy, compute=compute, offload=offload)
