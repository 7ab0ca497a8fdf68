"""A terminal without Unicode, arguments that are no text, errors of the machine: one line, no traceback."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpen.cli.main import main
from sharpen.cli.shared.errors import LONGEST, describe, one_line
from sharpen.cli.shared.streams import tolerate_any_text

ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
# Each prints what is not ASCII to a terminal that has more: Greek, boxes, signs.
COMMANDS = (
    ["theory", "fixed-points", "--preset", "tempered"],
    ["theory", "optimum", "--kl", "0.1"],
    ["theory", "response"],
    ["theory", "length"],
    ["theory", "coverage"],
    ["theory", "self-sharpening"],
    ["theory", "estimators"],
    ["llm", "recipes"],
    ["llm", "train", "--dry-run"],
    ["llm", "train", "--help"],
    ["paper", "list"],
    ["paper", "status"],
    ["toy", "simulate", "--help"],
)


class Ascii(io.TextIOWrapper):
    """A stream that knows ASCII only, and fails on anything else, as Python's stdout does there."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)

    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode("ascii")


def ascii_streams(monkeypatch: pytest.MonkeyPatch) -> tuple[Ascii, Ascii]:
    """Put two such streams in place; in the test itself, since pytest puts its own there before each phase."""
    out, err = Ascii(), Ascii()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_prints_to_an_ascii_terminal(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, _ = ascii_streams(monkeypatch)
    with pytest.raises(SystemExit) as exited:
        main(command)
    assert exited.value.code == 0
    assert out.text().strip()


def test_the_stream_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = ascii_streams(monkeypatch)
    with pytest.raises(UnicodeEncodeError):
        print("π", file=out)
    tolerate_any_text()
    print("π ± ▁█ \ud800", file=out)
    assert out.text() == "pi +/- _@ \\ud800\n"


def test_a_process_under_the_c_locale() -> None:
    command = [sys.executable, "-m", "sharpen.cli.main", "theory", "optimum"]
    done = subprocess.run(command, env={**os.environ, **ASCII}, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii")
    done = subprocess.run([*command, "--base", "é"], env={**os.environ, **ASCII}, capture_output=True, timeout=600)
    assert done.returncode == 2
    assert done.stderr.decode("ascii").startswith("error: --base: got")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["llm", "train", "--data", ""], "--data"),
        (["llm", "train", "--data="], "--data"),
        (["llm", "eval", "--split", ""], "--split"),
        (["llm", "sample", "--template", ""], "--template"),
        (["llm", "train", "--out", ""], "--out"),
        (["theory", "optimum", "--base", ""], "--base"),
        (["llm", "train", "--model", "\udcff"], "--model"),
        (["llm", "train", "--set", "wandb=\ud800"], "--set"),
        ([""], "argument"),
    ],
)
def test_empty_values_and_no_text_are_refused(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {named}: got ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "'/x/y'"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), "File name too long"),
        (MemoryError("Unable to allocate 8 TiB"), "8 TiB"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error: Exception, part: str) -> None:
    line = describe(error)
    assert line is not None
    assert part in line
    assert len(line) < 300


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "/x"),
        OSError("no number"),
        OSError(errno.EBADF, "bad"),
        KeyError(),
    ],
)
def test_what_may_be_a_defect_keeps_its_traceback(error: Exception) -> None:
    assert describe(error) is None


def test_a_message_is_one_line_that_commands_no_terminal() -> None:
    assert one_line("a\n\x1b[2Jb\x9b") == "a \\x1b[2Jb\\x9b"
    assert len(one_line("x" * 10**6)) < LONGEST + 10
