"""Ctrl-C at a safe moment, and threads that end when nobody waits for them any more."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

_abandoned: ContextVar[threading.Event | None] = ContextVar("abandoned", default=None)


class AbandonedError(RuntimeError):
    """What this thread works on is not wanted any more."""


@contextmanager
def abandonable(event: threading.Event) -> Iterator[None]:
    """Let :func:`stop_if_abandoned` raise in this thread, inside, once ``event`` is set."""
    token = _abandoned.set(event)
    try:
        yield
    finally:
        _abandoned.reset(token)


def stop_if_abandoned() -> None:
    """End what is :func:`abandonable` and was given up; long loops call it where they may stop.

    Raises:
        AbandonedError: it was given up.
    """
    event = _abandoned.get()
    if event is not None and event.is_set():
        raise AbandonedError("given up by the thread that waited for it")


class Interrupt:
    """Whether Ctrl-C or a termination signal has arrived."""

    requested = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag that the training loop reads between steps.

    The second one raises KeyboardInterrupt at once. Off the main thread, where Python delivers no signals, nothing is
    changed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in watched}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:  # else someone has reason to change it
                signal.signal(number, handler)
