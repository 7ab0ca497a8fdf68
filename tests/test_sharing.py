"""Two processes that share the tests: each test runs once, in one of them, in the order that each says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGIN = ["-q", "-p", "tests.sharing", "-p", "no:cacheprovider"]
INNER = """
import pathlib, time

def test_one(): pathlib.Path("ran").open("a").write(__name__ + " one\\n")

def test_two():
    time.sleep({seconds})
    pathlib.Path("ran").open("a").write(__name__ + " two\\n")
"""


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", *PLUGIN, "--rootdir", str(folder), "-c", os.devnull, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def written(folder: Path, *names: str, seconds: float = 0.0) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(INNER.format(seconds=seconds))


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().splitlines()


def test_alone_a_process_runs_its_own_part_and_then_the_others_from_the_end(tmp_path: Path) -> None:
    written(tmp_path, "a/test_a.py", "b/test_b.py", "b/test_c.py", "d/test_d.py")
    (tmp_path / "taken").mkdir()
    process = start(tmp_path, "--share=taken", "--share-first=b")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert [line.split(".")[-1] for line in ran(tmp_path)] == [
        f"test_{name} {which}" for name in "bcda" for which in ("one", "two")
    ]


def test_two_processes_run_each_test_once(tmp_path: Path) -> None:
    written(tmp_path, *(f"{part}/test_{part}{i}.py" for part in "ab" for i in range(6)), seconds=0.05)
    (tmp_path / "taken").mkdir()
    both = [start(tmp_path, "--share=taken", f"{option}=b") for option in ("--share-first", "--share-last")]
    outs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert len(ran(tmp_path)) == len(set(ran(tmp_path))) == 24
    assert len(list((tmp_path / "taken").iterdir())) == 12
    assert all("deselected" in out or "24 passed" in out for out in outs)


def test_a_failure_is_the_failure_of_the_process_that_took_it(tmp_path: Path) -> None:
    written(tmp_path, "a/test_a.py")
    (tmp_path / "a" / "test_b.py").write_text("def test_fails(): assert False\n")
    (tmp_path / "taken").mkdir()
    first = start(tmp_path, "--share=taken", "--share-first=a")
    assert first.communicate(timeout=120)[0].count("1 failed, 2 passed") == 1
    assert first.returncode == 1
    second = start(tmp_path, "--share=taken", "--share-last=a")
    assert "3 deselected" in second.communicate(timeout=120)[0]
    assert second.returncode == 0
