"""Watching a run: its numbers are the simulation's, and the terminal gets what a person can read."""

from __future__ import annotations

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.cli.toy.watch import BARS, sparkline
from sharpen.objective import InputError, preset
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.simulate import simulate
from sharpen.toy.simulation.watch import WATCHED, watch

COLUMNS, ROWS = 80, 30
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def config(**changes: object) -> SimulateConfig:
    fields = {"objectives": {"tempered": preset("tempered")}, "learners": ("natural", "rloo"), "seeds": 4, "steps": 30}
    return SimulateConfig.model_validate(fields | {"record_every": 10} | changes)


def test_the_frames_are_the_simulation(tmp_path: Path) -> None:
    """Entropy and E[r] against the trajectories that `simulate` stores, computed here from log pi."""
    frames = list(watch(config(), 10))
    simulate(config(), tmp_path / "run")
    assert [frame.updates for frame in frames] == [0, 10, 20, 30]
    assert {frame.of for frame in frames} == {30}
    with np.load(tmp_path / "run" / "trajectory.npz") as stored:
        for key in ("tempered/natural", "tempered/rloo"):
            log_pi = stored[f"log_policy/{key}"]  # [K, S, n]
            pi = np.exp(log_pi)
            rewards = pi @ stored["reward"]
            series = frames[-1].series[key]
            np.testing.assert_allclose(series["entropy"].mean, -(pi * log_pi).sum(-1).mean(1), rtol=1e-12)
            np.testing.assert_allclose(series["expected_reward"].mean, rewards.mean(1), rtol=1e-12)
            half = series["expected_reward"].half
            if key.endswith("natural"):
                assert half is None
            else:  # t(0.975, 3) standard errors
                assert half == pytest.approx(3.182446305 * rewards[-1].std(ddof=1) / 2)
    assert set(frames[-1].series["tempered/rloo"]) == set(WATCHED)


@pytest.mark.parametrize("every", [0, 31, -1])
def test_frames_must_fit_the_run(every: int) -> None:
    with pytest.raises(InputError):
        next(watch(config(), every))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(2, 20))
def test_sparklines_rise_with_their_numbers(numbers: list[float], width: int) -> None:
    line = sparkline(sorted(numbers), width, 0.0, 1.0)
    assert len(line) == min(width, len(numbers))
    heights = [BARS.index(bar) for bar in line]
    assert heights == sorted(heights)
    assert heights[-1] == round(7 * max(numbers))  # the last number is always shown


def on_terminal(
    spawn: Callable[..., subprocess.Popen[bytes]], arguments: list[str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the command on a terminal of its own, 80 by 30; return it and our end of the terminal."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm-256color"}
    command = [sys.executable, "-m", "sharpen.cli.main", "toy", "watch", *arguments]
    process = spawn(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    return process, ours


def read_until(ours: int, wanted: str | None, limit: float = 120.0) -> str:
    """Return what the terminal showed up to the wanted text, or to its end."""
    seen, end = b"", time.monotonic() + limit
    while time.monotonic() < end:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed: how a pseudo-terminal ends
            return seen.decode()
        if not piece:
            return seen.decode()
        seen += piece
        if wanted is not None and wanted in seen.decode(errors="ignore"):
            return seen.decode(errors="ignore")
    raise AssertionError(f"not seen within {limit} s: {wanted!r} in {seen[-500:]!r}")


def test_a_terminal_shows_sparklines_within_its_width(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process, ours = on_terminal(
        spawn, ["--steps", "40", "--every", "8", "--delay", "0", "--seeds", "3", "--learner", "rloo,natural"]
    )
    shown = read_until(ours, None)
    os.close(ours)
    assert process.wait(60) == 0
    assert shown.index("\x1b[?25l") < shown.rindex("\x1b[?25h")  # the cursor is hidden, and shown again
    lines = [ESCAPE.sub("", line).rstrip() for line in re.split(r"\r?\n|\r", shown)]
    assert max(map(len, lines)) <= COLUMNS
    last = lines[max(i for i, line in enumerate(lines) if "update 40 of 40" in line) :]
    for title in ("tempered/rloo", "tempered/natural"):
        assert any(title in line for line in last), last
    entropy = next(line for line in last if re.search(r"│ H ", line))
    panels = re.findall(rf"H\s+([{BARS}]+)\s+(\d\.\d+)", entropy)
    assert len(panels) == 2  # side by side
    for bars, number in panels:
        assert len(bars) == 6  # a bar a frame
        assert BARS.index(bars[0]) > BARS.index(bars[-1])  # tempering with alpha 2 lowers the entropy
        assert 0.5 < float(number) < 1.5
    assert "bars:" in " ".join(last)


def test_ctrl_c_ends_with_130_and_gives_the_cursor_back(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process, ours = on_terminal(
        spawn, ["--steps", "100000", "--every", "10", "--delay", "0.2", "--seeds", "2", "--preset", "tempered"]
    )
    before = read_until(ours, "update 10")
    os.killpg(process.pid, signal.SIGINT)
    after = read_until(ours, None)
    os.close(ours)
    assert process.wait(60) == 130
    assert "\x1b[?25h" in after
    assert after.rstrip().endswith("interrupted")
    assert "Traceback" not in before + after


def test_without_a_terminal_there_is_a_line_a_track(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "watch", "--steps", "20", "--learner", "natural", "--preset", "tempered"])
    assert exited.value.code == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["update", "objective/learner", "H", "E[r]", "KL", "top-1", "alpha", "SNR"]
    assert [int(line.split()[0]) for line in lines] == list(range(0, 21, 2))
    numbers = [float(x) for x in lines[-1].split()[2:-1]]
    # log pi = c log p + constant with c = 2 - 0.9^20: that is the effective alpha.
    assert numbers[-1] == pytest.approx(2 - 0.9**20, abs=1e-3)
    assert lines[-1].split()[-1] == "-"  # an exact gradient has no noise
    assert max(map(len, [head, *lines])) <= COLUMNS


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--every", "0"], "every"),
        (["--steps", "10", "--every", "11"], "every"),
        (["--learner", "luck"], "learner"),
        (["--delay", "-1"], "delay"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "watch", *arguments])
    assert exited.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert word in printed.err
