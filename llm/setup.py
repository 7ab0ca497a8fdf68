"""Everything that a training run needs before its first step: model, tokenizer, engine, reference, shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sharpen.llm import world as processes
from sharpen.llm.config import LoRASettings, TrainConfig
from sharpen.llm.models import ModelSource, check_device, load_model, load_tokenizer
from sharpen.llm.world import World
from sharpen.objective import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sharpen.llm.reference import Reference
    from sharpen.llm.rollout import Engine


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


class Placed(Protocol):
    """Settings that say where and how precisely a model computes: ``auto`` or by name."""

    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102


class Sampled(Placed, Protocol):
    """Settings of a model that is only sampled; as the fields of ``EvalConfig`` and ``SampleConfig``."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def engine_memory(self) -> float: ...  # noqa: D102
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def placement(config: Placed) -> tuple[str, str]:
    """Return the device and the dtype of the passes that ``config`` means on this machine."""
    import torch

    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = config.dtype if config.dtype != "auto" else ("bfloat16" if device == "cuda" else "float32")
    return device, dtype


def is_sharded_run(config: TrainConfig, world: World, dtype: str) -> bool:
    """Return whether the run's weights are divided by FSDP2, which also keeps the float32 master copy."""
    if config.shard != "auto":
        return config.shard == "always"
    return world.size > 1 or dtype != "float32"


def check_processes(config: TrainConfig, world: World) -> None:
    """Refuse numbers that the processes cannot share, and passes that only a divided model can make.

    Raises:
        InputError: there are fewer prompts than processes, these do not divide by those of one engine, or the passes
            should be less precise than the weights, which is FSDP2's work, and ``shard`` is ``never``.
    """
    world.share(config.prompts_per_step)
    dtype = placement(config)[1]
    if config.shard == "never" and dtype != "float32":
        allowed = f"auto or always, as the passes are in {dtype} and the weights in float32; or --dtype float32"
        raise InputError("shard", config.shard, allowed)
    if world.size % config.tensor_parallel:
        allowed = f"a divisor of the number of processes, {world.size}"
        raise InputError("tensor_parallel", config.tensor_parallel, allowed)


def prepare(config: TrainConfig, source: ModelSource, world: World) -> Setup:
    """Load the model, start the engine and divide the weights as ``config`` asks.

    The weights are loaded in float32, the master copy that the optimizer updates. Where they are to be divided they
    stay on the CPU until then, so that no GPU ever holds all of them in float32.

    Raises:
        InputError: the model cannot be loaded, or the processes cannot share the work.
    """
    import torch

    from sharpen.llm.recovery import ResilientEngine
    from sharpen.llm.reference import make_reference
    from sharpen.llm.weights import copy_of

    device, dtype = placement(config)
    check_device(device, world.local_rank)
    check_processes(config, world)
    divided = is_sharded_run(config, world, dtype)
    if divided or world.size > 1:
        processes.connect(world, device)
    torch.manual_seed(config.seed)
    compute: torch.dtype = getattr(torch, dtype)
    tokenizer = load_tokenizer(source)
    plain: Any = load_model(source, "cpu" if divided else device, "float32")
    # A sharded or adapted policy cannot generate by itself: the engine then samples from a copy.
    apart = divided or config.lora is not None
    copies = iter([copy_of(plain, dtype=compute, device=device) if apart else plain])

    def start() -> Engine:
        # One that replaces a dead one is made of the base model again; the current weights are pushed to it.
        sampler = next(copies, None)
        if sampler is None:
            sampler = load_model(source, device, dtype)
        return _engine(config, source, sampler, tokenizer, dtype, world)

    engine = ResilientEngine(start, world, config.engine_restarts)
    model = plain if config.lora is None else with_adapters(plain, config.lora)
    engine.follow(model)
    reference = make_reference(config.objective, model, dtype=compute if divided else None)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only
    if divided:
        _divide(model, reference, config, compute, device)
    return Setup(
        source, model, tokenizer, engine, reference, config.template or source.template, compute, device, world
    )


def _engine(config: TrainConfig, source: ModelSource, sampler: Any, tokenizer: Any, dtype: str, world: World) -> Engine:
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
    )
    return engine if config.tensor_parallel == 1 else SharedEngine(engine, world, config.tensor_parallel)


def load_to_sample(config: Sampled) -> tuple[Engine, PreTrainedModel, PreTrainedTokenizerBase]:
    """Start an engine on the policy of ``config``; the model beside it scores what the engine draws.

    Raises:
        InputError: the model cannot be loaded, or the engine is not here.
    """
    from sharpen.llm.rollout import make_engine

    device, dtype = placement(config)
    source = ModelSource(config.model, config.model)
    tokenizer = load_tokenizer(source)
    model = load_model(source, device, dtype).eval()
    engine = make_engine(
        config.engine,
        model=model,
        location=config.model,
        max_length=config.max_length,
        seed=config.seed,
        tokenizer=tokenizer,
        dtype=dtype,
        memory_share=config.engine_memory,
    )
    return engine, model, tokenizer


def with_adapters(model: PreTrainedModel, settings: LoRASettings) -> Any:
    """Return the model with a LoRA adapter on every linear layer but the head; only these are trained."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, target_modules="all-linear")  # type: ignore[arg-type]
    return get_peft_model(model, lora)


def _divide(model: Any, reference: Reference, config: TrainConfig, compute: torch.dtype, device: str) -> None:
    from sharpen.llm.reference import Copy
    from sharpen.llm.sharding import shard

    shard(model, compute=compute)
    if isinstance(reference, Copy):
        offload = config.reference_offload and device == "cuda"
        shard(reference.copy_of_policy, compute=compute, offload=offload)
