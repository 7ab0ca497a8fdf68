"""Where and how precisely a model computes, and whether processes can share a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sharpen.objective import InputError

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.distributed.world import World

GAINS = 5 * 10**7  # parameters; a model of 135 million takes less than half of float32's time (docs/llm.md)
NATIVE = {"avx512_bf16", "amx_bf16", "bf16"}  # "bf16" is Arm's
LARGE = 10**9  # parameters; a CPU needs hours for what is a step of training on a GPU


class Placed(Protocol):
    """Settings that say where and how precisely a model computes: ``auto`` or by name."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102


class Sampled(Placed, Protocol):
    """Settings of a model that is only sampled; as the fields of ``EvalConfig`` and ``SampleConfig``."""

    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def engine_memory(self) -> float: ...  # noqa: D102
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def placement(config: Placed) -> tuple[str, str]:
    """Return the device and the dtype of the passes that ``config`` means on this machine.

    Adapters on a CPU compute in float32 unless told otherwise: their product is added to the sampler's weights, and
    bfloat16, which keeps 1/256 of a weight, rounds most of so little away (.02 nats a token between sampler and trainer
    in the first update of SmolLM2, .1 in the twelfth).
    """
    import torch

    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if config.dtype != "auto":
        return device, config.dtype
    if device == "cpu" and getattr(config, "lora", None) is not None:
        return device, "float32"
    return device, "bfloat16" if device == "cuda" or gains_by_bfloat16(config.model) else "float32"


def gains_by_bfloat16(model: str) -> bool:
    """Return whether this machine's CPU computes bfloat16 by itself, and the model is large enough to gain by it.

    Smaller ones spend their time between the multiplications (:data:`GAINS` is a bound of parameters); a CPU without
    such instructions makes float32 numbers of every bfloat16 one first.
    """
    from sharpen.llm.distributed.memory import shape_of
    from sharpen.llm.models.registry import BUILT_IN, load_architecture, resolve

    if model in BUILT_IN or not computes_bfloat16():
        return False
    try:
        return shape_of(load_architecture(resolve(model))).base >= GAINS
    except InputError:  # it is not here, which loading it will tell
        return False


def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU has instructions that multiply bfloat16 matrices, as Linux names them."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return not flags.isdisjoint(NATIVE)


def is_sharded_run(config: TrainConfig, world: World, dtype: str, device: str | None = None) -> bool:
    """Return whether the run's weights are divided by FSDP2, which also keeps the float32 master copy.

    One process on a CPU keeps it without (``llm/training/master.py``), so that the graph of a pass can be kept.

    Args:
        config: The run.
        world: Its processes.
        dtype: Of the passes.
        device: Where; None: that of the run on this machine.
    """
    if config.shard != "auto":
        return config.shard == "always"
    return world.size > 1 or (dtype != "float32" and (device or placement(config)[0]) != "cpu")


def check_processes(config: TrainConfig, world: World) -> None:
    """Refuse numbers that the processes cannot share.

    Raises:
        InputError: there are fewer prompts than processes, or these do not divide by those of one engine.
    """
    world.share(config.prompts_per_step)
    if world.size % config.tensor_parallel:
        allowed = f"a divisor of the number of processes, {world.size}"
        raise InputError("tensor_parallel", config.tensor_parallel, allowed)
