"""A pool of killable processes that compare or score answers; see :mod:`sharpen.llm.tasks.verification.worker`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from typing import NamedTuple

from sharpen.llm.tasks.verification.worker import CRASH, READY

START_LIMIT = 120.0  # seconds; importing math-verify takes one or two, more on a machine that is busy
# What a reply may take beyond the limit that the kernel enforces: for the death to be told, on a busy machine.
GRACE = 30.0
ATTEMPTS = 2  # how often an answer is tried whose server died meanwhile, which may be no fault of the answer's

Task = tuple[str, ...]  # what the judge is asked: two answers, for the verifier's own
# SymPy's order of terms follows hashes; threads of a linear algebra library take address space and are of no use.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
MATHEMATICS = "sharpen.llm.tasks.verification.worker:compare"


class _Work(NamedTuple):
    """What a worker is doing."""

    number: int
    task: int
    deadline: float


class VerifyPool:
    """Asks a judge about answers in worker processes, which start with the first answer.

    Args:
        workers: Number of processes.
        limit: Wall-clock seconds per answer.
        memory: Address space of a worker, bytes.
        judge: ``module:function`` of this package, which gets the texts of a task and returns one word; the module's
            ``prepare()`` is called once, before workers are forked.
    """

    def __init__(self, workers: int, limit: float, memory: int, judge: str = MATHEMATICS) -> None:
        self._workers, self._limit, self._memory, self._judge = workers, limit, memory, judge
        self._numbers = itertools.count(1)  # of requests
        self._sockets: list[socket.socket] = []
        self._server: int | None = None
        self._stop: weakref.finalize | None = None

    @property
    def server(self) -> int | None:
        """Process id (and group) of the server of the workers; None before the first answer and after ``close``."""
        return self._server

    def run(self, tasks: Sequence[Task]) -> list[str]:
        """Return each task's verdict: the judge's word, or ``TIMEOUT`` or ``CRASH`` of the worker.

        Raises:
            RuntimeError: the workers do not start, whatever they are asked.
        """
        verdicts: dict[int, str] = {}
        attempts = [0] * len(tasks)
        try:
            while len(verdicts) < len(tasks):
                if self._stop is None:
                    self._start()
                busy: dict[socket.socket, _Work] = {}
                try:
                    self._round(tasks, verdicts, busy)
                except OSError:  # the server is gone
                    self.close()
                    for work in busy.values():
                        attempts[work.task] += 1
                        if attempts[work.task] == ATTEMPTS:
                            verdicts[work.task] = CRASH
        except BaseException:  # Ctrl-C too: workers in the middle of something cannot be asked again
            self.close()
            raise
        return [verdicts[task] for task in range(len(tasks))]

    def close(self) -> None:
        """Kill the processes; the next ``run`` starts others."""
        if self._stop is not None:
            self._stop()
        self._stop, self._server, self._sockets = None, None, []

    def _start(self) -> None:
        pairs = [socket.socketpair() for _ in range(self._workers)]
        theirs = [pair[1] for pair in pairs]
        command = [
            sys.executable,
            "-P",
            "-m",
            "sharpen.llm.tasks.verification.worker",
            str(self._limit),
            str(self._memory),
            self._judge,
        ]
        process = subprocess.Popen(
            [*command, *(str(end.fileno()) for end in theirs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[end.fileno() for end in theirs],
            start_new_session=True,  # a terminal's Ctrl-C is for the program, which then closes the pool
            env={**os.environ, **ENVIRONMENT},
        )
        for end in theirs:
            end.close()
        self._sockets, self._server = [pair[0] for pair in pairs], process.pid
        # Also at the interpreter's end, and when nobody refers to the pool any more.
        self._stop = weakref.finalize(self, _kill, process, self._sockets)
        _await_start(process, self._sockets[0])

    def _round(self, tasks: Sequence[Task], verdicts: dict[int, str], busy: dict[socket.socket, _Work]) -> None:
        """Fill in the missing verdicts.

        Raises:
            OSError: the server has died; ``busy`` is what it was working on.
        """
        waiting = [task for task in reversed(range(len(tasks))) if task not in verdicts]
        idle = list(self._sockets)
        with selectors.DefaultSelector() as selector:
            for connection in self._sockets:
                selector.register(connection, selectors.EVENT_READ)
            while waiting or busy:
                while waiting and idle:
                    connection, task = idle.pop(), waiting.pop()
                    work = _Work(next(self._numbers), task, time.monotonic() + self._limit + GRACE)
                    busy[connection] = work
                    connection.sendall(json.dumps([work.number, *tasks[task]]).encode() + b"\n")
                soonest = min(work.deadline for work in busy.values())
                events = selector.select(max(0.0, soonest - time.monotonic()))
                if not events:
                    raise TimeoutError("a worker has outlived its limit")
                for connection in [key.fileobj for key, _ in events]:
                    assert isinstance(connection, socket.socket)
                    for number, verdict in _replies(connection):
                        if connection in busy and busy[connection].number == number:
                            verdicts[busy.pop(connection).task] = verdict
                            idle.append(connection)


def _replies(connection: socket.socket) -> list[tuple[int, str]]:
    """Return the replies that have arrived: one, or two if a worker died after it had replied.

    Raises:
        ConnectionError: the server has ended.
    """
    words = connection.recv(256).decode().split()
    if not words:
        raise ConnectionError("the server has ended")
    return [(int(number), verdict) for number, verdict in zip(words[::2], words[1::2], strict=True)]


def _await_start(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.settimeout(START_LIMIT)
    try:
        started = connection.recv(64).decode().strip() == READY
    except OSError:
        started = False
    connection.settimeout(None)
    if not started:
        process.kill()
        _, errors = process.communicate()
        reason = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"the verifier's processes do not start: {reason or 'no reply'}")


def _kill(process: subprocess.Popen[bytes], sockets: list[socket.socket]) -> None:
    for connection in sockets:
        connection.close()
    if process.returncode is None:  # its process group is still its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
