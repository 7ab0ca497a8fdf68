"""Ctrl-C at a safe moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
