"""An engine that is started again when it dies, so that a long run survives it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sharpen.llm.distributed.world import World
from sharpen.llm.rollout import Engine, Rollout, Sampling, WeightSyncError
from sharpen.objective import InputError

log = logging.getLogger(__name__)
Drawn = TypeVar("Drawn")


class EngineDiedError(RuntimeError):
    """The engine died more often in one call than it may."""


class ResilientEngine:
    """Samples by an engine, and by a new one with the same weights where that fails.

    A call that fails is repeated with the same seeds, so what it returns is what the first engine would have sampled.
    With several processes all of them start again together, because starting one is a collective operation. A wrong
    request, or weights that did not arrive, are not the engine's death and are raised.

    Args:
        start: Returns a new engine.
        world: The processes that train together; all of them have to call each method together.
        restarts: How often one call may start the engine again.
    """

    def __init__(self, start: Callable[[], Engine], world: World, restarts: int) -> None:
        self._start, self._world, self._restarts = start, world, restarts
        self.inner = start()
        self._model: Any = None

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.inner.name

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
        """Return responses; see :class:`sharpen.llm.rollout.types.Engine`.

        Several processes may have no prompts each, but have to call it.

        Raises:
            EngineDiedError: it died too often.
        """

        def sample() -> Rollout:
            return self.attempt(prompts, samples, sampling, seed, limits=limits, row_seeds=row_seeds)

        for attempt in range(self._restarts + 1):
            rollout, error = tried(sample)
            if not any(self._world.gather([error is not None])):
                assert rollout is not None
                return rollout
            self.replace(error, attempt + 1)
        raise AssertionError("unreachable")

    def attempt(
        self,
        prompts: list[list[int]],
        samples: int,
        sampling: Sampling,
        seed: int,
        *,
        limits: Sequence[int] | None = None,
        row_seeds: Sequence[int] | None = None,
    ) -> Rollout:
        """Return responses by the engine that is there: what it raises is its death, which :meth:`replace` mends.

        Unless the engine is one of several processes, this tells the others nothing, so that it may run in a thread.
        """
        if not prompts and self._world.size > 1 and not hasattr(self.inner, "inner"):
            return Rollout([], [], [], [])
        return self.inner.generate(prompts, samples, sampling, seed, limits=limits, row_seeds=row_seeds)

    def replace(self, error: Exception | None, deaths: int = 1) -> None:
        """Put a new engine with the current weights in the place of one that died; all processes together.

        Args:
            error: How it died here; None: it was in another process.
            deaths: How often one has died in this step.

        Raises:
            EngineDiedError: it died too often.
        """
        reason = "in another process" if error is None else " ".join(f"{type(error).__name__}: {error}".split())
        if deaths > self._restarts:
            raise EngineDiedError(f"the {self.name} engine died {deaths} times in one step ({reason})") from error
        log.warning("the %s engine died (%s); a new one takes its place", self.name, reason)
        with suppress(Exception):  # it is dead already
            self.inner.close()
        self.inner = self._start()
        if self._model is not None:
            self.inner.push_weights(self._model)

    def push_weights(self, model: Any) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.push_weights(model)
        self.follow(model)

    def follow(self, model: Any) -> None:
        """Say whose weights a new engine has to sample from; ``push_weights`` says it too."""
        self._model = model

    def sleep(self) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.sleep()

    def close(self) -> None:
        """See :class:`sharpen.llm.rollout.types.Engine`."""
        self.inner.close()


def tried(sample: Callable[[], Drawn]) -> tuple[Drawn | None, Exception | None]:
    """Return what it returns, or how the engine died; what no new engine would mend is raised."""
    try:
        return sample(), None
    except (InputError, WeightSyncError):
        raise
    except Exception as error:
        return None, error
