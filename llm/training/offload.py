"""AdamW's moments in the machine's memory while an engine samples on the same GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sharpen.llm.models.weights import own_part
from sharpen.llm.rollout import Engine, Rollout, Sampling

_away: WeakKeyDictionary[torch.optim.Optimizer, Away] = WeakKeyDictionary()


class Away:
    """An optimizer whose state can leave the device, and is back whenever it makes a step.

    The tensors stay the same objects: only their memory is given back, so that whoever holds them, a sharded tensor for
    example, need not know. This process's own part leaves; nothing is sent to others.

    Args:
        optimizer: AdamW or another that keeps tensors as large as the weights.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        # By id: a tensor of the state, which so stays and gives its id to no other, its own part, its place outside.
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        _away[optimizer] = self
        optimizer.register_step_pre_hook(lambda *_: self.come_back())

    def leave(self) -> None:
        """Copy the state to the machine's memory and free the device's; what has left stays."""
        now = {id(tensor): tensor for state in self._optimizer.state.values() for tensor in _large(state)}
        self._kept = {key: kept for key, kept in self._kept.items() if now.get(key) is kept[0]}  # one may be loaded
        for key, tensor in now.items():
            part = own_part(tensor)
            if part.untyped_storage().nbytes() == 0:
                continue
            if key not in self._kept:
                self._kept[key] = tensor, part, torch.empty_like(part, device="cpu", pin_memory=part.is_cuda)
            self._kept[key][2].copy_(part)
            part.untyped_storage().resize_(0)
        if any(part.is_cuda for _, part, _ in self._kept.values()):
            torch.cuda.empty_cache()  # the engine's allocator is another

    def come_back(self) -> None:
        """Bring back what left."""
        for key in self._kept:
            self._bring(key)

    @contextmanager
    def here(self, tensor: Tensor) -> Iterator[None]:
        """Have one tensor of the state on the device, and put it back where it was."""
        kept = self._kept.get(id(tensor))
        gone = kept is not None and kept[1].untyped_storage().nbytes() == 0
        if gone:
            self._bring(id(tensor))
        yield
        if gone and kept is not None:
            kept[1].untyped_storage().resize_(0)

    def _bring(self, key: int) -> None:
        _, part, outside = self._kept[key]
        storage = part.untyped_storage()
        if storage.nbytes() == 0:
            storage.resize_(outside.numel() * outside.element_size())
            part.copy_(outside)


class RoomyEngine:
    """An engine that finds the optimizer's state gone whenever it may take memory.

    Args:
        inner: The engine.
        away: The optimizer's state.
    """

    def __init__(self, inner: Engine, away: Away) -> None:
        self.inner, self._away = inner, away

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.inner.name

    def generate(
        self, prompts: list[list[int]], samples: int, sampling: Sampling, seed: int, **rows: Sequence[int] | None
    ) -> Rollout:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self._away.leave()
        return self.inner.generate(prompts, samples, sampling, seed, **rows)

    def push_weights(self, model: Any) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self._away.leave()
        self.inner.push_weights(model)

    def sleep(self) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.sleep()

    def close(self) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.close()


@contextmanager
def present(optimizer: torch.optim.Optimizer, tensor: Tensor) -> Iterator[None]:
    """Have one tensor of an optimizer's state on the device, whether or not the state has left."""
    found = _away.get(optimizer)
    if found is None:
        yield
    else:
        with found.here(tensor):
            yield


def _large(state: dict[str, Any]) -> list[Tensor]:
    return [entry for entry in state.values() if isinstance(entry, Tensor) and entry.numel() > 1]
