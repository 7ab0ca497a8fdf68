"""One process at a time: locks of the operating system, which a kill releases.

A lock is a file that its holder keeps locked (``flock``) and has written into who it is. The file alone means nothing:
one that a killed process or a crashed machine left is taken over.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sharpen.objective.errors import InputError

# Looking whether a lock is held takes it for a moment; who finds it taken asks again for so long.
PATIENCE = 0.3  # seconds
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """A lock that this process holds."""

    def __init__(self, file: Path, handle: int) -> None:
        self._file, self._handle = file, handle
        _held.add(self)

    def release(self) -> None:
        """Give the lock back; its file goes first, while nobody else can have it."""
        with suppress(OSError):
            self._file.unlink()
        self._close()

    def _close(self) -> None:
        _held.discard(self)
        with suppress(OSError):
            os.close(self._handle)


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget() -> None:
    """Close inherited locks in a forked process: else it would go on holding them when its parent is killed."""
    for lock in list(_held):
        lock._close()


os.register_at_fork(after_in_child=_forget)


def take(file: Path) -> Lock | None:
    """Return the lock ``file``, or None if another process (or another part of this one) holds it.

    Where the file system has no locks, a warning says so and the lock guards nothing.

    Raises:
        OSError: the file cannot be written.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _locked(handle, file):
                if _is(file, handle):
                    _sign(handle)
                    return Lock(file, handle)
            elif time.monotonic() > deadline:
                os.close(handle)
                return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        time.sleep(0.02)


def _locked(handle: int, file: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        logging.getLogger(__name__).warning("%s: this file system has no locks; start one process only", file.parent)
    return True


def _is(file: Path, handle: int) -> bool:
    """Return whether the locked file is still the one of that name: its holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    told = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(told).encode(), 0)


def holder(file: Path) -> str:
    """Return who holds a lock, in words.

    Example:
        >>> holder(Path("/nowhere"))
        'another process'
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return f"process {told['pid']:d} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"


def is_held(file: Path) -> bool:
    """Return whether a process holds the lock now."""
    try:
        handle = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


@contextmanager
def held(file: Path, shown: Path, field: str = "out") -> Iterator[None]:
    """Hold the lock ``file`` inside.

    Args:
        file: The lock's.
        shown: The folder that it guards, for the message.
        field: The option that named the folder.

    Raises:
        InputError: another process holds it; the message says which.
        OSError: the file cannot be written.
    """
    lock = take(file)
    if lock is None:
        who = holder(file)
        raise InputError(field, str(shown), f"a folder that no other process is working in ({who}, is)")
    try:
        yield
    finally:
        lock.release()
