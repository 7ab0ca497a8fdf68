"""The tests' own surroundings: a run in the background, without a terminal, after a failure."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

INNER = """
import os, signal, subprocess, sys

def test_leaves_a_process(capfd):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open("pid", "w") as file:
        file.write(str(child.pid))
    assert False

def test_interrupts_a_child(spawn):
    child = spawn([sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert child.wait(60) in (-signal.SIGINT, 1, 130)

def test_sees_a_plain_terminal():
    assert os.environ["COLUMNS"] == "80" and "FORCE_COLOR" not in os.environ and "RANK" not in os.environ

def test_sees_no_gpu():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and os.environ["JAX_PLATFORMS"] == "cpu"
"""
NEEDS_VLLM = """
import pytest

@pytest.mark.vllm
def test_samples(): pass

def test_does_not(): pass
"""


def test_background_runs_interrupt_children_and_failed_tests_leave_no_process(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_inner.py").write_text(INNER)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_inner.py"],
        cwd=tmp_path,
        env=os.environ | {"FORCE_COLOR": "1", "RANK": "3", "COLUMNS": "203", "CUDA_VISIBLE_DEVICES": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as `nohup make test &` starts it
        timeout=300,
    )
    assert "1 failed, 3 passed" in done.stdout.replace("\x1b[0m", ""), done.stdout + done.stderr
    left = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not psutil.pid_exists(left):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {left} is still there")


@pytest.mark.parametrize(
    ("lacking", "told"),
    [("find_spec = lambda name: None", "not installed"), ("importlib.metadata.version = absent", "build for GPUs")],
)
def test_without_a_vllm_that_runs_here_its_tests_skip_themselves(lacking: str, told: str, tmp_path: Path) -> None:
    own = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    absent = "\ndef absent(name): raise importlib.metadata.PackageNotFoundError(name)\n"
    there = "find_spec = lambda name: True\n"
    (tmp_path / "conftest.py").write_text(f"{own}{absent}{there}{lacking}\n", encoding="utf-8")
    (tmp_path / "test_inner.py").write_text(NEEDS_VLLM)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, "test_inner.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert told in done.stdout
