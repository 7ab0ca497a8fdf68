"""The processes that judge answers: a server that imports the judge once and forks workers that may be killed.

Run as ``python -m sharpen.llm.tasks.verification.worker LIMIT MEMORY JUDGE FD...`` by
:mod:`sharpen.llm.tasks.verification.pool`. The judge is :func:`compare`, with math-verify, or another function of the
package. Nothing here imports torch, and nothing of the program that started it: not
its threads, its memory or its main module.

The kernel enforces both limits. Before each answer a worker sets a timer whose signal has its default action, which
kills: no code of SymPy can delay it, as it can delay an exception. The server sees the death, says so on the worker's
socket and forks another, in milliseconds, since what the judge needs is already imported. A worker writes no file.

A request is one line, ``[number, text, ...]`` in JSON; a reply is one line, ``number verdict``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

RIGHT, WRONG, ERROR, TIMEOUT, CRASH = "right", "wrong", "error", "timeout", "crash"
READY = "ready"
NUMBER = struct.Struct("=Q")  # of a request, from 1
# SymPy and the parser keep caches; a worker that ran into the memory limit by them would fail innocent answers.
ANSWERS_PER_WORKER = 2000
RELATIVE, NOISE, DIGITS = 1e-5, 1e-25, 40  # of numbers that math-verify takes for equal
Judge = Callable[..., str]
_CLOSED, _WORN, _BROKEN = 0, 3, 4  # exit codes: nobody is left to ask, time for a fresh worker, anything else


class _Limits(NamedTuple):
    """What an answer may take: wall-clock seconds, and bytes of a worker's address space."""

    seconds: float
    memory: int


def compare(prediction: str, gold: str) -> str:
    r"""Return whether two answers are the same: ``right``, ``wrong``, or ``error`` where math-verify's parser fails.

    What needs no algebra is decided by :mod:`sharpen.llm.tasks.verification.answer_forms` and ``answer_units``; two
    units of different kinds are different answers, and units of one kind are converted; a unit that one side lacks is
    ignored. The rest is math-verify's, which is asked about the canonical texts and then about the given ones.

    Args:
        prediction: The response's final answer.
        gold: The gold answer.
    """
    from sharpen.llm.tasks.verification.answer_forms import canonical, judge
    from sharpen.llm.tasks.verification.answer_units import split_unit

    one, other = canonical(prediction), canonical(gold)
    (left, unit), (right, gold_unit) = split_unit(one), split_unit(other)
    if unit is not None and gold_unit is not None:
        if unit.dimension != gold_unit.dimension:
            return WRONG
        ratio = unit.factor / gold_unit.factor
        if ratio != 1:
            left = rf"({left}) \cdot \frac{{{ratio.numerator}}}{{{ratio.denominator}}}"
        questions = [(left, right)]
    else:
        questions = [(left, right), (one, other), (prediction, gold)]
    verdicts = set()
    for question in dict.fromkeys(questions):
        known = judge(*question)
        if known is not None:
            return RIGHT if known else WRONG
        verdicts.add(math_verify(*question))
        if RIGHT in verdicts:
            return RIGHT
    return WRONG if WRONG in verdicts else ERROR


def math_verify(prediction: str, gold: str) -> str:
    r"""Return math-verify's verdict on two answers, each read as ``\boxed{}``; see :func:`compare`."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse
    from math_verify import verify as equal

    _make_rounding_relative()
    latex, expression = LatexExtractionConfig(), ExprExtractionConfig()
    try:
        # Its own time limits are alarms that raise, which work on a main thread only and which SymPy can swallow.
        golds = parse(f"\\boxed{{{gold}}}", [latex], parsing_timeout=None, raise_on_error=True)  # type: ignore[arg-type]
        found = parse(f"\\boxed{{{prediction}}}", [latex, expression], parsing_timeout=None, raise_on_error=True)  # type: ignore[arg-type]
        # x >= 3 and [3, oo) are one set of solutions, whichever of the two is the gold answer.
        same = golds and found and equal(golds, found, timeout_seconds=None, allow_set_relation_comp=True)
        return RIGHT if same else WRONG
    except Exception:  # whatever a hostile text provokes in the parsers is a wrong answer
        return ERROR


@lru_cache(maxsize=1)
def _make_rounding_relative() -> None:
    """Let math-verify's numeric comparison say yes to what is near relatively only.

    It is absolute, to 6 decimals or 15 digits, takes 1/2^99 for 1/2^98, and has no setting for that. It calls the
    function by its global name, also for the elements of sets, tuples and matrices.
    """
    from math_verify import grader

    absolute = grader.sympy_numeric_eq

    def relative(a: Any, b: Any, float_rounding: int, numeric_precision: int) -> bool:
        return absolute(a, b, float_rounding, numeric_precision) and not _far(a, b)

    grader.sympy_numeric_eq = relative


def _far(a: Any, b: Any) -> bool:
    """Return whether two numbers differ by more than ``RELATIVE`` of the larger; False for what is no number."""
    import sympy
    from math_verify.grader import get_pct_val

    # 9% and 9 are one to math-verify, as are 9% and 0.09: percentages are its own business.
    if any(not isinstance(x, sympy.Expr) or x.free_symbols or get_pct_val(x) is not None for x in (a, b)):
        return False
    try:
        x, y = a.doit().evalf(DIGITS), b.doit().evalf(DIGITS)
        gap, size = abs(x - y), max(abs(x), abs(y))
        if not gap > RELATIVE * size:
            return False
        return gap > NOISE or sympy.simplify(a - b) != 0  # what is exactly 0 can be evaluated to noise
    except (TypeError, ValueError, AttributeError):
        return False


def prepare() -> None:
    """Import what a comparison needs, and see that it works."""
    if math_verify(r"\frac{1}{2}", "0.5") != RIGHT:
        raise SystemExit("math-verify does not take 1/2 for 0.5")


def main(arguments: list[str]) -> None:
    """Serve until the sockets' other ends are closed; see the module."""
    limit, memory = float(arguments[0]), int(arguments[1])
    sockets = [socket.socket(fileno=int(number)) for number in arguments[3:]]
    logging.disable(logging.CRITICAL)  # math-verify logs a traceback for every text that is no mathematics
    module, _, name = arguments[2].partition(":")
    found = importlib.import_module(module)
    found.prepare()
    judge = getattr(found, name)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stderr.fileno())  # the parser prints its complaints
    sockets[0].sendall(f"{READY}\n".encode())
    # What each worker is at, its request's number or 0, where the server sees it after the worker's death.
    with mmap.mmap(-1, NUMBER.size * len(sockets)) as board:
        limits = _Limits(limit, memory)
        workers = {_fork(place, sockets, board, limits, judge): place for place in range(len(sockets))}
        while workers:
            pid, status = os.wait()
            place, code = workers.pop(pid), os.waitstatus_to_exitcode(status)
            (number,) = NUMBER.unpack_from(board, NUMBER.size * place)
            if code == _CLOSED:
                continue
            if number:
                with contextlib.suppress(OSError):  # the program is gone; the next worker will notice
                    _reply(sockets[place], number, TIMEOUT if code == -signal.SIGALRM else CRASH)
            workers[_fork(place, sockets, board, limits, judge)] = place


def _fork(place: int, sockets: list[socket.socket], board: mmap.mmap, limits: _Limits, judge: Judge) -> int:
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
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # bytes of a file that it writes; sockets are none
        with contextlib.suppress(ValueError):  # macOS has no such limit
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
        code = _serve(sockets[place], board, NUMBER.size * place, limits.seconds, judge)
    finally:
        os._exit(code)  # never back into the server's loop


def _serve(connection: socket.socket, board: mmap.mmap, place: int, limit: float, judge: Judge) -> int:
    """Answer requests; return the exit code."""
    with connection.makefile("rb") as requests:
        for _ in range(ANSWERS_PER_WORKER):
            line = requests.readline()
            if not line:
                return _CLOSED
            number, *question = json.loads(line)
            NUMBER.pack_into(board, place, number)
            signal.setitimer(signal.ITIMER_REAL, limit)
            verdict = judge(*question)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _reply(connection, number, verdict)
            NUMBER.pack_into(board, place, 0)
    return _WORN


def _reply(connection: socket.socket, number: int, verdict: str) -> None:
    connection.sendall(f"{number} {verdict}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
