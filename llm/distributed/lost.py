"""Processes that die or do not come: who it was, as far as the others can tell, in one line.

A collective operation fails in every process that takes part when one of them is gone, and where one is late, after
the run's ``process_timeout``. What it raises says neither who nor what to do. So each process leaves in the
launch's store its machine and number, how many meetings it has come to, and why it ended, and those that are left
read there about the others.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sharpen.objective import InputError

PATIENCE = 2.0  # seconds until a process that has died is known to have
CONTINUE = "the last complete checkpoint is as it was, and the same command continues from it"
SIGNS = ("gloo/", "[c10d]", "NCCL")  # in the RuntimeErrors of collectives that have no class of their own


class LostProcessError(InputError):
    """Another process of the run has ended, or was not there in time; nothing that this one could go on with."""


@dataclass
class Register:
    """What the processes of one group leave for each other.

    Args:
        store: The launch's, with ``set``, ``get`` and ``check``.
        rank: Number of this process.
        size: How many there are.
        timeout: Seconds that they wait for one another.
        met: How many meetings this process has come to.
    """

    store: Any
    rank: int
    size: int
    timeout: float
    met: int = 0

    def sign(self) -> None:
        """Tell where this process is."""
        import psutil

        self._put("is", f"{_machine()} {psutil.Process().pid}")

    def arrive(self) -> None:
        """Count a meeting that this process comes to, before it waits there."""
        self.met += 1
        self._put("met", str(self.met))

    def end(self, why: str) -> None:
        """Tell that this process ends, and why; an empty reason where it ends because of another one."""
        with suppress(Exception):  # the store may be gone with the process that kept it
            self._put("ended", why)

    def who(self, late: bool) -> str | None:
        """Return who is missing and in which way, or None where nothing is known.

        Args:
            late: Whether this process waited in vain, and was not left.
        """
        try:
            others = [rank for rank in range(self.size) if rank != self.rank]
            reasons = {rank: self._get("ended", rank) for rank in others}
            ended = [rank for rank in others if reasons[rank]]
            if ended:
                return f"{self._named(ended)} ended ({reasons[ended[0]]})"
            # One that has told why it ends may be gone before it is looked for: what it told is read again.
            dead = [rank for rank in others if _is_dead(self._get("is", rank)) and self._get("ended", rank) is None]
            if dead:
                return f"{self._named(dead)} died"
            behind = [rank for rank in others if int(self._get("met", rank) or 0) < self.met]
            return f"{self._named(behind)} did not come within {self.timeout:g} s" if late and behind else None
        except Exception:  # likewise
            return f"{self._named([0])} died, or the launcher did"

    def _named(self, ranks: list[int]) -> str:
        numbers = ", ".join(map(str, ranks))
        return f"process{'es' * (len(ranks) > 1)} {numbers} of {self.size} (counted from 0)"

    def _put(self, what: str, text: str) -> None:
        self.store.set(f"sharpen/{what}/{self.rank}", text)

    def _get(self, what: str, rank: int) -> str | None:
        key = f"sharpen/{what}/{rank}"
        return self.store.get(key).decode() if self.store.check([key]) else None


_register: Register | None = None


def enter(store: Any, rank: int, size: int, timeout: float) -> None:
    """Begin to leave signs in a group's store."""
    global _register  # there is one group in a process
    _register = Register(store, rank, size, timeout)
    _register.sign()


def arrive() -> None:
    """Count a meeting of all processes; see :meth:`Register.arrive`."""
    if _register is not None:
        _register.arrive()


@contextmanager
def told(timeout: float) -> Iterator[None]:
    """Raise :class:`LostProcessError` in place of what a collective raises when another process is gone or late.

    Args:
        timeout: Seconds that the processes wait for one another.
    """
    try:
        yield
    except LostProcessError:
        raise
    except BaseException as error:
        if not _is_of_a_collective(error):
            if _register is not None:
                _register.end(" ".join(f"{type(error).__name__}: {error}".split()))
            raise
        _stay_to_tell()
        late = "timed out" in str(error).lower()
        who = None
        if _register is not None:
            register = _register
            register.end("")
            who = _tried(lambda: register.who(late))
        kind = f"within {timeout:g} s" if late else "one of them ended"
        longer = "; --set process_timeout=SECONDS waits longer" if late else ""
        raise LostProcessError(
            "processes", who or f"no answer of another one, {kind}", f"all of them, to the end; {CONTINUE}{longer}"
        ) from error


def _is_of_a_collective(error: BaseException) -> bool:
    import torch.distributed as dist

    if not dist.is_available():
        return False
    found = isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    return found or isinstance(error, dist.DistError)


def _tried(look: Callable[[], str | None]) -> str | None:
    """Look until something is found: a connection may end a little before its process."""
    until = time.monotonic() + PATIENCE
    while (found := look()) is None and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _stay_to_tell() -> None:
    """Ignore SIGTERM from here on: a launcher sends it to those that are left, and they are about to say why."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _machine() -> str:
    import platform

    return platform.node() or "localhost"


def _is_dead(sign: str | None) -> bool:
    """Return whether a process of this machine is no more; of others nothing is known."""
    import psutil

    if sign is None:
        return False
    machine, _, number = sign.rpartition(" ")
    if machine != _machine():
        return False
    try:
        return psutil.Process(int(number)).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
