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
from typing import Any

import pytest


def run_once(request: dict[str, Any], seconds_left: Callable[[], float]) -> dict[str, Any]:
    """Return pytest's exit status, null if it did not end in time, and what it wrote."""
    with tempfile.TemporaryFile() as written:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(written.fileno(), 1)
            os.dup2(written.fileno(), 2)
            os.environ |= request["environment"]
            status = int(pytest.main(request["arguments"]))
            sys.stdout.flush()
            os._exit(status)
        status = None
        while status is None and seconds_left() > 0:
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
            else:
                time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # also what a test has left behind
        if status is None:
            os.waitpid(child, 0)
        written.seek(0)
        return {"status": status, "said": written.read().decode(errors="replace")}


def main() -> None:
    """Answer requests until there are no more."""
    for name in sys.argv[1:]:
        with suppress(ImportError):  # what is not installed no test that runs here needs
            importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        end = time.monotonic() + request["seconds"]
        print(json.dumps(run_once(request, lambda end=end: end - time.monotonic())), flush=True)


if __name__ == "__main__":
    main()
