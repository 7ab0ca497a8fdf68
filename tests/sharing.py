"""Two pytest processes that share the tests: each takes files in turn, so that neither waits for the other at the end.

    python -m pytest -p tests.sharing --share=FOLDER --share-first=llm --share-first=tests/llm
    python -m pytest -p tests.sharing --share=FOLDER --share-last=llm --share-last=tests/llm

(With ``=``: a folder that stands by itself pytest takes for tests, and looks for its settings above it.)

Both collect all tests. Each begins with its own part; when that is done it helps with the other's, from its end. A file
is taken by making a file of its name in ``FOLDER``, which is empty at first: that succeeds once. What the other one
took is told as deselected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the folder that both processes see, and which part is this one's."""
    group = parser.getgroup("sharing")
    group.addoption("--share", type=Path, metavar="FOLDER", help="where taken files are marked; empty at first")
    group.addoption("--share-first", action="append", default=[], metavar="PATH", help="begin with the files below it")
    group.addoption("--share-last", action="append", default=[], metavar="PATH", help="end with the files below it")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the files that this process takes; see ``_pytest.main.pytest_runtestloop``, whose place this takes."""
    folder = session.config.getoption("--share")
    if folder is None or session.config.option.collectonly or session.testsfailed:
        return None
    run = set()
    taken = (item for items in _taken(session, folder) for item in items)
    item = next(taken, None)
    while item is not None:
        following = next(taken, None)  # whose fixtures stay: a file is taken when the last test of another begins
        run.add(item)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    session.config.hook.pytest_deselected(items=[item for item in session.items if item not in run])
    return True


def _taken(session: pytest.Session, folder: Path) -> Iterator[list[pytest.Item]]:
    """Take files until there are none, and return the tests of each."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in session.items:
        files.setdefault(item.path, []).append(item)
    for file in ordered(list(files), session.config):
        name = quote(str(file.relative_to(session.config.rootpath)), safe="")
        try:
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield files[file]


def ordered(files: list[Path], config: pytest.Config) -> list[Path]:
    """Return this process's own files, and then the other's from the last to the first."""
    first, last = (
        [config.rootpath / path for path in config.getoption(option) or []]
        for option in ("--share-first", "--share-last")
    )

    def own(file: Path) -> bool:
        below = any(file.is_relative_to(path) for path in (first or last))
        return below if first else not below

    return [*filter(own, files), *reversed([file for file in files if not own(file)])]
