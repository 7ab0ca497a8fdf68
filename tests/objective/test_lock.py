"""Locks between real processes: one holder, named; a kill releases it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sharpen.objective import InputError
from sharpen.objective.storage import lock

HOLD = """
import sys, time
from pathlib import Path
from sharpen.objective.storage import lock
taken = lock.take(Path(sys.argv[1]))
print(taken is not None, flush=True)
sys.stdin.read()
taken.release()
"""
FORK = """
import os, sys, time
from pathlib import Path
from sharpen.objective.storage import lock
taken = lock.take(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
sys.stdin.read()
"""


@contextmanager
def process(script: str, file: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", script, str(file)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdin is not None
    assert running.stdout is not None
    try:
        yield running, running.stdout.readline().strip()
    finally:
        running.stdin.close()
        running.kill()
        running.wait()
        running.stdout.close()


def test_the_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with process(HOLD, file) as (first, said):
        assert said == "True"
        assert lock.is_held(file)
        held, told = lock.held(file, tmp_path), rf"^out: got '.*{tmp_path.name}'.*process {first.pid} on "
        with pytest.raises(InputError, match=told) as refused, held:
            pass
        assert "\n" not in str(refused.value)
        assert first.stdin is not None
        first.stdin.close()
        assert first.wait(60) == 0
    assert not file.exists()
    assert not lock.is_held(file)


def test_a_kill_releases_it(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with process(HOLD, file) as (first, _):
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert file.exists()
    assert not lock.is_held(file)
    with lock.held(file, tmp_path):
        assert f"process {os.getpid()} on" in lock.holder(file)
    assert not file.exists()


def test_a_forked_child_that_outlives_its_killed_parent_does_not_hold_it(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with process(FORK, file) as (parent, child):
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        os.kill(int(child), 0)  # it lives
        taken = lock.take(file)
        assert taken is not None
        taken.release()


def test_looking_does_not_make_a_taker_fail(tmp_path: Path) -> None:
    """Looking holds the lock for a moment."""
    file = tmp_path / ".lock"
    handle = os.open(file, os.O_RDWR | os.O_CREAT)
    import fcntl
    import threading

    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(0.05, os.close, [handle]).start()
    taken = lock.take(file)
    assert taken is not None
    taken.release()


def test_a_garbled_lock_file_means_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.write_bytes(b"\xff{")
    assert lock.holder(file) == "another process"
    with lock.held(file, tmp_path):
        pass
