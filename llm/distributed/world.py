"""The processes that train one policy together: which of them this is, and what they tell each other.

Every process runs the same program on its share of each step's prompts (data parallel, started by torchrun). Without
torchrun there is one process and nothing is sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sharpen.llm.distributed import lost
from sharpen.objective import InputError

Item = TypeVar("Item")
TIMEOUT = 1800.0  # seconds; torch's own for gloo, and three times NCCL's


@dataclass(frozen=True)
class World:
    """One process among ``size``.

    Args:
        rank: Number of this process, from 0.
        size: How many there are.
        local_rank: Number of this process on its machine: the GPU that it uses.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def part(self, count: int) -> range:
        """Return which of ``count`` items are this process's: neighbours, by rank, as many as another's or one less."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def share(self, prompts: int) -> range:
        """Return which of a step's prompts are this process's; see :meth:`part`.

        Raises:
            InputError: there are fewer prompts than processes.
        """
        if prompts < self.size:
            raise InputError("prompts_per_step", prompts, f"at least the number of processes, {self.size}")
        return self.part(prompts)

    def gather(self, items: list[Item]) -> list[Item]:
        """Return the items of all processes, in the order of ranks; every process gets them."""
        if self.size == 1:
            return items
        import torch.distributed as dist

        lost.arrive()
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def from_first(self, value: Item) -> Item:
        """Return what the first process has."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        lost.arrive()
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def most(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        return max(self.gather([number]))

    def wait(self) -> None:
        """Return when every process is here."""
        if self.size > 1:
            import torch.distributed as dist

            lost.arrive()
            dist.barrier()


def launched() -> World:
    """Return this process's place as torchrun's environment tells it; nothing is connected yet.

    Raises:
        InputError: the environment is not what torchrun sets.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return World()
    try:
        rank, size, local = (int(os.environ.get(name, "0")) for name in names)
    except ValueError as error:
        raise InputError("RANK, WORLD_SIZE", os.environ["RANK"], "whole numbers, as torchrun sets them") from error
    return World(rank, size, local)


def connect(world: World, device: str, timeout: float = TIMEOUT) -> None:
    """Join the process group, by NCCL on GPUs and gloo on CPUs, and take this process's GPU. Once is enough.

    Args:
        world: The processes.
        device: ``cpu`` or ``cuda``.
        timeout: Seconds that the processes wait for one another, here and in every collective operation.
    """
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(world.local_rank)
    if dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    if world.size > 1:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
        assert dist.group.WORLD is not None
        lost.enter(dist.group.WORLD.get_group_store(), world.rank, world.size, timeout)
    else:  # FSDP2 wants a group of one process too
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # pyright: ignore


def disconnect() -> None:
    """Leave the process group, if there is one."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
