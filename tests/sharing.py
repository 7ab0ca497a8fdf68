"""Two pytest processes that share the tests: each takes files in turn, so that neither waits for the other at the end.

    python -m pytest -p tests.sharing --share=llm --share=tests/llm

(With ``=``: a folder that stands by itself pytest takes for tests, and looks for its settings above it.)

One process collects all tests, which imports everything that they need, and forks. The child begins with the files
below these folders, the first process with the others; who is done helps the other one, from its end. A file is taken
by making a file of its name in a folder that both know: that succeeds once. What the other one took is told as
deselected. The first process fails if the child did.

A fork copies one thread: what is imported for the tests must not have started another that they rely on.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

MOST = 200_000  # objects that a collection looks through, in a tenth of a second
MARK = "SHARPEN_TEST_SESSION"  # by which tests/conftest.py finds at the end what a process's tests have left running


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know which files the second process begins with."""
    group = parser.getgroup("sharing")
    group.addoption("--share", action="append", metavar="PATH", help="a second process begins with the files below it")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the files that this process takes; see ``_pytest.main.pytest_runtestloop``, whose place this takes."""
    if not session.config.getoption("--share") or session.config.option.collectonly or session.testsfailed:
        return None
    folder = Path(tempfile.mkdtemp(prefix="sharing-"))
    child = _fork(session.config)
    if not child:
        os.environ[MARK] = uuid.uuid4().hex
        _run(session, folder, second=True)
        return True
    try:
        _run(session, folder, second=False)
    except BaseException:
        os.kill(child, signal.SIGINT)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        shutil.rmtree(folder)
    if status:
        session.shouldfail = f"the other process of the two ended with {status}, see above"  # which is printed
        raise session.Failed(session.shouldfail)
    return True


def _fork(config: pytest.Config) -> int:
    """Fork, with nothing left to print twice and each process's captured output in files of its own."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    for stream in (sys.stdout, sys.stderr, config.get_terminal_writer()):
        stream.flush()
    _settle()  # nor does a collection write into pages that both share
    atexit.register(gc.unfreeze)  # some libraries tell at the exit what has not been freed
    child = os.fork()
    capture.start_global_capturing()
    capture.suspend_global_capture()
    return child


def _settle() -> None:
    """Take what is there now, mostly what was imported, out of later collections: an engine collects when it ends."""
    gc.collect()
    gc.freeze()


def _run(session: pytest.Session, folder: Path, *, second: bool) -> None:
    run = set()
    taken = (item for items in _taken(session, folder, second) for item in items)
    item = next(taken, None)
    while item is not None:
        following = next(taken, None)  # whose fixtures stay: a file is taken when the last test of another begins
        run.add(item)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        if following is not None and following.path != item.path and len(gc.get_objects()) > MOST:
            _settle()  # between files, when what a file's tests shared is gone: what is frozen is never collected
        item = following
    session.config.hook.pytest_deselected(items=[item for item in session.items if item not in run])


def _taken(session: pytest.Session, folder: Path, second: bool) -> Iterator[list[pytest.Item]]:
    """Take files until there are none, and return the tests of each."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in session.items:
        files.setdefault(item.path, []).append(item)
    for file in ordered(files, session.config, second):
        name = quote(str(file.relative_to(session.config.rootpath)), safe="")
        try:
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield files[file]


def ordered(files: dict[Path, list[pytest.Item]], config: pytest.Config, second: bool) -> list[Path]:
    """Return this process's own files, and then the other's from the last to the first.

    Of each, those with slow tests come first: at the end neither is left alone with one that takes a minute.
    """
    paths = [config.rootpath / path for path in config.getoption("--share") or ()]
    slow = {file: any(item.get_closest_marker("slow") for item in items) for file, items in files.items()}

    def own(file: Path) -> bool:
        return any(file.is_relative_to(path) for path in paths) == second

    begin = sorted(files, key=lambda file: not slow[file])
    return [*filter(own, begin), *reversed([file for file in begin if not own(file)])]
