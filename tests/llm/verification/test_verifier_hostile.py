"""The verifier's processes: hostile text, kills, Ctrl-C, programs that would break an ordinary pool."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.llm.tasks.verification import answer_text
from sharpen.llm.tasks.verification.pool import VerifyPool
from sharpen.llm.tasks.verification.verify import LONGEST_RESPONSE, Verifier, final_answer, verify

Spawn = Callable[..., "subprocess.Popen[str]"]

EXPONENT = r"\boxed{9^{9^{9^{9^{9}}}}}"
HALF = r"\boxed{\frac{1}{2}}"
# Text, and how it may end: by its nature killed at the limit, or turned away.
HOSTILE = [
    (EXPONENT, "timeouts"),
    (r"\boxed{10000000000!}", "timeouts"),
    (r"\boxed{2^{10000000000}}", "timeouts"),
    (r"\boxed{" + "9" * 100_000 + "}", "too_long"),
    (r"\boxed{" + "{" * 5000 + "1" + "}" * 5000 + "}", "too_long"),
    (r"\boxed{" * 30_000 + "}" * 30_000, "no_answer"),
    ("\\boxed{\ud800}", "wrong"),
    ("\\boxed{\x00}", "wrong"),
    ("1/" * 5000, "no_answer"),
    (r"\boxed{" * 100_000, "no_answer"),
]
linux = pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads /proc")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait for something that another process does; a minute is for machines that are busy."""
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.1)
    return False


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_hostile_texts_score_zero_are_counted_and_leave_their_neighbours_alone() -> None:
    batch = [text for hostile, _ in HOSTILE for text in (hostile, rf"\boxed{{\frac{{{len(hostile)}}}{{7}}}}")]
    golds = [gold for hostile, _ in HOSTILE for gold in ("98", f"{len(hostile)}/7")]
    with Verifier(workers=2, limit=1.0) as verifier:
        assert verifier(batch, golds) == [0.0, 1.0] * len(HOSTILE)
        counts = dict(verifier.counts)
        assert verifier(batch, golds) == [0.0, 1.0] * len(HOSTILE)  # seen before: costs no second limit
        assert verifier.counts["timeouts"] == counts["timeouts"]
    for ending in {ending for _, ending in HOSTILE}:
        assert counts[ending] == sum(ending == other for _, other in HOSTILE), ending
    assert counts["right"] == len({gold for gold in golds if "/" in gold})


PIECES = ("\\boxed{", "\\boxed {", "\\boxed", "{", "}", "$", "~", " ", "\n", "\\", "x", "7", ",")


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_the_last_box_that_holds_something_is_found_by_reading_each(text: str) -> None:
    """The oracle takes away what is empty from each box by itself, in quadratic time for nested ones."""
    boxes = answer_text._boxes(text)
    empty = re.compile(r"\\boxed|[\s{}$~]")
    assert answer_text._filled(text, boxes) == [box for box in boxes if empty.sub("", text[box[1] : box[2]])]


def test_deep_nesting_that_is_short_enough_to_be_read_is_bounded_too() -> None:
    nested = ["{" * 400 + "1" + "}" * 400, "\\frac{1}{" * 90 + "x" + "}" * 90, "\\sqrt{" * 120 + "2" + "}" * 120]
    with Verifier(workers=1, limit=1.0) as verifier:
        assert verifier([rf"\boxed{{{text}}}" for text in nested], ["98"] * 3) == [0.0] * 3
        assert sum(verifier.counts[name] for name in ("timeouts", "errors", "wrong", "crashes")) == 3


def test_of_a_huge_text_the_end_is_read() -> None:
    assert final_answer(r"\boxed{1}" + "x" * LONGEST_RESPONSE) is None
    assert verify("{" * 3_000_000 + r"\boxed{7}", "7") == 1.0


def test_it_works_off_the_main_thread() -> None:
    found: list[float] = []

    def ask() -> None:
        with Verifier(workers=1, limit=1.0) as verifier:
            found.extend(verifier([HALF, EXPONENT], ["0.5", "98"]))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [1.0, 0.0]


@linux
def test_a_worker_that_is_killed_costs_its_answer_only() -> None:
    with Verifier(workers=1, limit=60.0) as verifier:
        verifier([HALF], ["0.5"])
        server = verifier._pool.server
        assert server is not None
        before = children(server)

        def kill() -> None:  # once it is at work: it has used processor time since
            worker = before[0]
            idle = cpu_ticks(worker)
            assert eventually(lambda: cpu_ticks(worker) > idle + 20)
            os.kill(worker, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        assert verifier([EXPONENT, r"\boxed{\frac{2}{3}}"], ["98", "2/3"]) == [0.0, 1.0]
        thread.join()
        assert verifier.counts["crashes"] == 1
        assert eventually(lambda: len(children(server)) == 1)
        assert children(server) != before


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@linux
@pytest.mark.parametrize("whole_server", [False, True])
def test_a_process_that_is_killed_while_idle_costs_no_answer(whole_server: bool) -> None:
    with Verifier(workers=1) as verifier:
        for number in range(3, 8):
            assert verifier([rf"\boxed{{\frac{{1}}{{{number}}}}}"] * 2, [f"1/{number}", "1/2"]) == [1.0, 0.0]
            server = verifier._pool.server
            assert server is not None
            os.kill(server if whole_server else children(server)[0], signal.SIGKILL)
        assert verifier.counts["crashes"] == 0


@linux
def test_workers_have_a_memory_limit_and_none_of_the_programs_libraries() -> None:
    import torch  # what the workers must not inherit

    with Verifier(workers=1, memory=300 * 2**20) as verifier:
        verifier([HALF], ["0.5"])
        server = verifier._pool.server
        assert server is not None
        (worker,) = children(server)
        limits = Path(f"/proc/{worker}/limits").read_text()
        assert next(line for line in limits.splitlines() if "address space" in line).split()[3] == str(300 * 2**20)
        for pid in (server, worker):
            assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
        assert Path(torch.__file__).parent.name in Path("/proc/self/maps").read_text()


def test_processes_that_cannot_start_are_told_apart_from_wrong_answers() -> None:
    pool = VerifyPool(workers=1, limit=float("nan"), memory=2**30)
    pool._limit = "soon"  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="do not start: ValueError: could not convert"):
        pool.run([("1", "2")])


PROGRAM = """
import os, sys
from sharpen.llm.tasks.verification.verify import Verifier
verifier = Verifier(workers=2, limit=float(sys.argv[1]))
print(verifier([r"\\boxed{\\frac{1}{2}}"], ["0.5"]), verifier._pool.server, flush=True)
verifier([r"\\boxed{9^{9^{9^{9^{9}}}}}"], ["98"])
"""


def run_program(spawn: Spawn, tmp_path: Path, limit: float) -> tuple[subprocess.Popen[str], int]:
    """Start a script without a main guard, which a spawned pool would run again; return it at work."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    process = spawn([sys.executable, str(script), str(limit)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[0] == "[1.0]"
    return process, int(words[1])


def test_a_script_without_a_main_guard_works_and_leaves_nothing(tmp_path: Path, spawn: Spawn) -> None:
    process, group = run_program(spawn, tmp_path, 0.5)
    process.communicate()
    assert process.returncode == 0
    assert eventually(lambda: not alive(group))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_program_that_is_interrupted_leaves_no_process(number: int, tmp_path: Path, spawn: Spawn) -> None:
    process, group = run_program(spawn, tmp_path, 2.0)
    assert alive(group)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert eventually(lambda: not alive(group))  # after a kill: when the last answer meets its limit
