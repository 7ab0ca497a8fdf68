"""The processes that run math-verify: a server that imports it once and forks workers that may be killed.

Run as ``python -m sharpen.llm.verify_worker LIMIT MEMORY FD...`` by :mod:`sharpen.llm.verify_pool`. Nothing here
imports torch, and nothing of the program that started it: not its threads, its memory or its main module.

The kernel enforces both limits. Before each answer a worker sets a timer whose signal has its default action, which
kills: no code of SymPy can delay it, as it can delay an exception. The server sees the death, says so on the worker's
socket and forks another, in milliseconds, since math-verify is already imported.

A request is one line, ``[number, prediction, gold, boxed]`` in JSON; a reply is one line, ``number verdict``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import signal
import socket
import struct
import sys

RIGHT, WRONG, ERROR, TIMEOUT, CRASH = "right", "wrong", "error", "timeout", "crash"
READY = "ready"
NUMBER = struct.Struct("=Q")  # of a request, from 1
# SymPy and the parser keep caches; a worker that ran into the memory limit by them would fail innocent answers.
ANSWERS_PER_WORKER = 2000
_CLOSED, _WORN, _BROKEN = 0, 3, 4  # exit codes: nobody is left to ask, time for a fresh worker, anything else


def compare(prediction: str, gold: str, boxed: bool) -> str:
    r"""Return whether math-verify takes the two for equal: ``right``, ``wrong``, or ``error`` where its parser fails.

    Args:
        prediction: Content of the response's last ``\boxed{}``, or the end of a response without one.
        gold: The gold answer, without a box.
        boxed: Which of the two the prediction is.
    """
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse
    from math_verify import verify as equal

    latex, expression = LatexExtractionConfig(), ExprExtractionConfig()
    text = f"\\boxed{{{prediction}}}" if boxed else prediction
    try:
        # Its own time limits are alarms that raise, which work on a main thread only and which SymPy can swallow.
        golds = parse(f"\\boxed{{{gold}}}", [latex], parsing_timeout=None, raise_on_error=True)  # type: ignore[arg-type]
        found = parse(text, [latex, expression], parsing_timeout=None, raise_on_error=True)  # type: ignore[arg-type]
        return RIGHT if golds and found and equal(golds, found, timeout_seconds=None) else WRONG
    except Exception:  # whatever a hostile text provokes in the parsers is a wrong answer
        return ERROR


def main(arguments: list[str]) -> None:
    """Serve until the sockets' other ends are closed; see the module."""
    limit, memory = float(arguments[0]), int(arguments[1])
    sockets = [socket.socket(fileno=int(number)) for number in arguments[2:]]
    logging.disable(logging.CRITICAL)  # it logs a traceback for every text that is no mathematics
    if compare(r"\frac{1}{2}", "0.5", True) != RIGHT:  # imports everything that a comparison needs
        raise SystemExit("math-verify does not take 1/2 for 0.5")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stderr.fileno())  # the parser prints its complaints
    sockets[0].sendall(f"{READY}\n".encode())
    # What each worker is at, its request's number or 0, where the server sees it after the worker's death.
    with mmap.mmap(-1, NUMBER.size * len(sockets)) as board:
        workers = {_fork(place, sockets, board, limit, memory): place for place in range(len(sockets))}
        while workers:
            pid, status = os.wait()
            place, code = workers.pop(pid), os.waitstatus_to_exitcode(status)
            (number,) = NUMBER.unpack_from(board, NUMBER.size * place)
            if code == _CLOSED:
                continue
            if number:
                with contextlib.suppress(OSError):  # the program is gone; the next worker will notice
                    _reply(sockets[place], number, TIMEOUT if code == -signal.SIGALRM else CRASH)
            workers[_fork(place, sockets, board, limit, memory)] = place


def _fork(place: int, sockets: list[socket.socket], board: mmap.mmap, limit: float, memory: int) -> int:
    NUMBER.pack_into(board, NUMBER.size * place, 0)
    pid = os.fork()
    if pid:
        return pid
    import resource  # POSIX only, as forking is

    code = _BROKEN
    try:
        for other, connection in enumerate(sockets):
            if other != place:
                connection.close()  # else a worker would keep its neighbours' sockets open after the program's end
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError):  # macOS has no such limit
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        code = _serve(sockets[place], board, NUMBER.size * place, limit)
    finally:
        os._exit(code)  # never back into the server's loop


def _serve(connection: socket.socket, board: mmap.mmap, place: int, limit: float) -> int:
    """Answer requests; return the exit code."""
    with connection.makefile("rb") as requests:
        for _ in range(ANSWERS_PER_WORKER):
            line = requests.readline()
            if not line:
                return _CLOSED
            number, prediction, gold, boxed = json.loads(line)
            NUMBER.pack_into(board, place, number)
            signal.setitimer(signal.ITIMER_REAL, limit)
            verdict = compare(prediction, gold, boxed)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _reply(connection, number, verdict)
            NUMBER.pack_into(board, place, 0)
    return _WORN


def _reply(connection: socket.socket, number: int, verdict: str) -> None:
    connection.sendall(f"{number} {verdict}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
