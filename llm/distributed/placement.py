"""Where and how precisely a model computes, and whether processes can share a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sharpen.objective import InputError

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.distributed.world import World


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
