"""Two processes that share the tests: each test runs once, in one of them, in the order that each says."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
BEGIN = """
import os, pathlib, subprocess, sys, time
import psutil

RAN = pathlib.Path("ran")

def said(which): RAN.open("a").write(f"{os.getpid()} {pathlib.Path(__file__).stem} {which}\\n")

def waits_for(words):
    while not (RAN.exists() and words in RAN.read_text()):
        time.sleep(.01)

def second_has_ended():
    number = next(int(line.split()[0]) for line in RAN.read_text().splitlines() if " test_b " in line)
    while psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        time.sleep(.01)

def speaks(name):
    for _ in range(2000):
        os.write(1, f"{name} says\\n".encode())
"""
QUICK = (
    BEGIN
    + """
def test_one(): said("one")

def test_two(): said("two")
"""
)


def meets(other: str, then: str) -> str:
    """Return tests that go on when both processes have taken a file: before its last test a process takes another."""
    return (
        BEGIN
        + f"""
def test_one():
    said("one")
    waits_for("test_{other} one")

def test_two():
    said("two")
    {then}
"""
    )


def shared(folder: Path, **files: str) -> tuple[int, str]:
    """Run files by two processes, of which the second begins with those whose name begins with b."""
    for name, text in files.items():
        (folder / name[0]).mkdir(exist_ok=True)
        (folder / name[0] / f"test_{name}.py").write_text(text)
    options = ["-q", "-p", "tests.sharing", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--share=b"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_each_test_runs_once_and_who_is_done_helps_the_other(tmp_path: Path) -> None:
    files = {
        "a1": meets("b1", ""),
        "a2": QUICK,
        "b1": meets("a1", 'waits_for("test_b3 two")'),
        "b2": QUICK,
        "b3": QUICK,
    }
    status, out = shared(tmp_path, **files)
    assert status == 0, out
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(test[1:] for test in ran) == [[f"test_{file}", which] for file in files for which in ("one", "two")]
    of = {file: [name for process, name, _ in ran if process == mine] for mine, file, _ in ran}
    assert of["test_a1"] is not of["test_b1"]
    assert of["test_a1"][:6] == ["test_a1"] * 2 + ["test_a2"] * 2 + ["test_b3"] * 2
    assert of["test_b1"][:2] == ["test_b1"] * 2
    assert sorted(of["test_a1"][6:] + of["test_b1"][2:]) == ["test_b2"] * 2  # whoever comes first
    assert out.count("deselected") == 2


FAILS = "assert False"


def test_a_failure_of_either_is_one_and_what_each_captured_is_its_own(tmp_path: Path) -> None:
    status, out = shared(tmp_path, a=meets("b", f"speaks('a'); {FAILS}"), b=meets("a", f"speaks('b'); {FAILS}"))
    assert status == 1
    said = [line for line in out.splitlines() if line.endswith(" says")]
    assert sorted((name, len(list(lines))) for name, lines in itertools.groupby(said)) == [
        ("a says", 2000),
        ("b says", 2000),
    ]
    assert out.count("1 failed, 1 passed") == 2


def test_a_failure_of_the_second_alone_fails_the_first(tmp_path: Path) -> None:
    status, out = shared(tmp_path, a=meets("b", ""), b=meets("a", FAILS))
    assert (status, out.count("1 failed, 1 passed"), out.count("2 passed")) == (1, 1, 1)
    assert "the other process of the two ended with 1" in out


def test_a_second_process_that_is_killed_fails_the_first(tmp_path: Path) -> None:
    status, out = shared(tmp_path, a=meets("b", ""), b=meets("a", "os.kill(os.getpid(), 9)"))
    assert status == 1
    assert "the other process of the two ended with -9" in out


def test_who_ends_kills_what_its_own_tests_left_and_nothing_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    start = 'program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])'
    left = f'{start}; RAN.with_name("left").write_text(str(program.pid))'
    lives = f"{start}; second_has_ended(); time.sleep(.1); assert program.poll() is None; program.kill()"
    status, out = shared(tmp_path, a=meets("b", lives), b=meets("a", left))
    assert status == 0, out
    number = int((tmp_path / "left").read_text())
    assert not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE
