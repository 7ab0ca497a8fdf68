"""Run pytest again and again on what the working folder holds at that moment, without importing all libraries anew.

The process imports those that it is given once and is copied (forked) for each run; nothing of the package is imported
before.
Requests and answers are lines of JSON on standard input and output: ``{"arguments", "environment", "seconds"}`` and
``{"status", "said"}``, status null after a timeout.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest


def run_once(request: dict[str, Any], seconds_left: Callable[[], float]) -> dict[str, Any]:
    """Return pytest's exit status, null if it did not end in time, and what it wrote."""
    with tempfile.TemporaryFile() as written:
        child = os.fork()
        if child == 0:
            _run_pytest(request, written.fileno())
        status = None
        try:
            while status is None and seconds_left() > 0:
                ended, code = os.waitpid(child, os.WNOHANG)
                if ended:
                    status = os.waitstatus_to_exitcode(code)
                else:
                    time.sleep(0.02)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # also what a test has left behind
            if status is None:
                os.kill(child, signal.SIGKILL)  # it may not lead a group of its own yet
                os.waitpid(child, 0)
        written.seek(0)
        return {"status": status, "said": written.read().decode(errors="replace")}


def _run_pytest(request: dict[str, Any], output: int) -> NoReturn:
    """Be the copy of the process that runs the tests."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= request["environment"]
    status = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        status = int(pytest.main(request["arguments"]))
        sys.stdout.flush()
    finally:
        os._exit(status)


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # after what is open has been closed
    for name in sys.argv[1:]:
        with suppress(ImportError):  # what is not installed no test that runs here needs
            importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        end = time.monotonic() + request["seconds"]
        print(json.dumps(run_once(request, lambda end=end: end - time.monotonic())), flush=True)


if __name__ == "__main__":
    main()
