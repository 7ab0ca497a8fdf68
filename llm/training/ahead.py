"""The next step's samples, drawn in a thread while this step scores, learns and updates (``sample_ahead``).

They are of the policy before the update, of whose weights the engine has a copy, and are there before the next push: so
what is drawn depends on the seed and the step alone, never on which of the two is faster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from sharpen.llm.common.interrupt import abandonable, stop_if_abandoned
from sharpen.llm.distributed.world import World
from sharpen.llm.rollout import Rollout
from sharpen.llm.rollout.recovery import tried
from sharpen.llm.training.state import Tensors
from sharpen.objective import InputError

Sample = Callable[[], tuple[list[int], Rollout]]


class Batch(NamedTuple):
    """One process's samples of a step.

    Args:
        chosen: Place of each prompt in the training set.
        rollout: Their responses.
        staleness: Updates from the policy that they are of to the one that learns from them.
    """

    chosen: list[int]
    rollout: Rollout
    staleness: int = 0

    def tensors(self, world: World) -> Tensors:
        """Return the responses of all processes as a checkpoint keeps them; every process has to call it."""
        own = self.rollout
        rows = world.gather(list(zip(own.response_ids, own.logprobs, own.finished, strict=True)))
        return {
            "tokens": torch.tensor([token for ids, _, _ in rows for token in ids], dtype=torch.long),
            "lengths": torch.tensor([len(ids) for ids, _, _ in rows]),
            "logprobs": torch.tensor([nats for _, row, _ in rows for nats in row], dtype=torch.float64),
            "finished": torch.tensor([finished for _, _, finished in rows]),
            "staleness": torch.tensor([self.staleness]),
        }


def stored(tensors: Tensors, chosen: list[int], prompts: list[list[int]], rows: range, where: str) -> Batch:
    """Return one process's part of what :meth:`Batch.tensors` returned.

    Args:
        tensors: See there.
        chosen: Place of each of this process's prompts in the training set.
        prompts: The tokens of each of its rows' prompts.
        rows: Which of all processes' rows are its own.
        where: Named in errors.

    Raises:
        InputError: the responses are another run's.
    """
    try:
        lengths = tensors["lengths"].tolist()
        parts = [tensors[name].split(lengths) for name in ("tokens", "logprobs")]
        own_tokens, own_nats = ([part[row].tolist() for row in rows] for part in parts)
        rollout = Rollout(prompts, own_tokens, own_nats, [bool(tensors["finished"][row]) for row in rows])
        return Batch(chosen, rollout, int(tensors["staleness"]))
    except (KeyError, IndexError, RuntimeError) as error:
        raise InputError("checkpoint", where, f"one with this run's samples in next.safetensors ({error})") from error


class Ahead:
    """Draws a batch in a thread.

    Args:
        engine: Whose samples they are; with ``replace`` (:class:`~sharpen.llm.rollout.recovery.ResilientEngine`) it may
            die.
        world: The processes that train together. The thread itself tells the others nothing: what processes tell each
            other has one order, that of their main threads.
        device: Where the engine computes.
    """

    def __init__(self, engine: Any, world: World, device: torch.device) -> None:
        self._engine, self._world, self._device = engine, world, device
        # One for the whole run: memory that PyTorch keeps, and cuBLAS's workspaces, belong to a stream.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread: threading.Thread | None = None
        self._given_up = threading.Event()
        self._found: tuple[tuple[list[int], Rollout] | None, BaseException | None] = (None, None)
        self.seconds = 0.0  # that the last batch took

    def start(self, sample: Sample) -> None:
        """Begin to draw a batch."""
        self._given_up.clear()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))  # the push before
        self._thread = threading.Thread(target=self._run, args=(sample,), name="sample-ahead", daemon=True)
        self._thread.start()

    def finish(self, again: Sample) -> Batch:
        """Wait for the batch and return it.

        Where the engine died in a process, all of them take a new one, and ``again`` draws the batch from the policy as
        it is now, to whose weights it has been brought.

        Raises:
            EngineDiedError: it died and may not.
            NonFiniteError: the policy that was sampled has logits that are no distribution.
        """
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        found, error = self._found
        self._found = (None, None)
        if error is not None and not (isinstance(error, Exception) and hasattr(self._engine, "replace")):
            raise error
        assert error is None or isinstance(error, Exception)
        if not any(self._world.gather([error is not None])):
            assert found is not None
            return Batch(*found, staleness=1)
        self._engine.replace(error)
        return Batch(*again())

    def abandon(self) -> None:
        """End the thread at its next token; nobody wants the batch any more."""
        if self._thread is not None:
            self._given_up.set()
            self._thread.join()
            self._thread = None

    def _run(self, sample: Sample) -> None:
        begin = time.perf_counter()
        try:
            with abandonable(self._given_up), _on(self._stream):
                stop_if_abandoned()
                self._found = tried(sample)
        except BaseException as error:  # told by finish, in the thread that trains
            self._found = (None, error)
        self.seconds = time.perf_counter() - begin


@contextmanager
def _on(stream: Any) -> Iterator[None]:
    """Compute on a stream beside the trainer's, on which kernels of both would wait for each other."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
