"""One engine held by several processes: each asks for its own prompts, all of them sample everyone's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpen.llm.distributed.world import World
from sharpen.llm.rollout.requests import seeds_of_rows
from sharpen.llm.rollout.types import Engine, Rollout, Sampling


class SharedEngine:
    """A tensor-parallel engine, seen from one of its processes.

    vLLM divides each weight matrix over ``size`` processes with neighbouring ranks, which then have to run the same
    requests in the same order. All processes of the world have to call each method together.

    Args:
        engine: The engine's part in this process.
        world: All processes.
        size: How many hold one engine; divides the world's size.
    """

    def __init__(self, engine: Engine, world: World, size: int) -> None:
        self.inner, self._world, self._size = engine, world, size
        self.name = engine.name

    def generate(
        self,
        prompts: list[list[int]],
        samples: int,
        sampling: Sampling,
        seed: int,
        *,
        limits: Sequence[int] | None = None,
        row_seeds: Sequence[int] | None = None,
    ) -> Rollout:
        """Return this process's responses; see :class:`sharpen.llm.rollout.types.Engine`. No prompts are allowed."""
        own = (
            prompts,
            [sampling.max_new_tokens] * len(prompts) if limits is None else list(limits),
            seeds_of_rows(len(prompts), samples, seed, row_seeds),
        )
        first = self._world.rank // self._size * self._size
        parts = self._world.gather([own])[first : first + self._size]
        together: list[list[Any]] = [[item for part in parts for item in part[column]] for column in range(3)]
        if not together[0]:
            return Rollout([], [], [], [])
        whole = self.inner.generate(together[0], samples, sampling, seed, limits=together[1], row_seeds=together[2])
        before = samples * sum(len(part[0]) for part in parts[: self._world.rank - first])
        rows = slice(before, before + samples * len(prompts))
        return Rollout(
            whole.prompt_ids[rows],
            whole.response_ids[rows],
            whole.logprobs[rows],
            whole.finished[rows],
            None if whole.model_logprobs is None else whole.model_logprobs[rows],
        )

    def push_weights(self, model: Any) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.push_weights(model)

    def sleep(self) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.sleep()

    def close(self) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.close()
