"""Time to the first result of every command: processor and wall-clock seconds from its start.

    python benchmarks/speed/first.py [--rounds 2] [--only "llm train"] [--engine transformers]

Each command is a process of its own, with one thread and the settings that it has without flags, but for those that
the table shows. It is stopped at the first line that says something about the problem: a number, a step, a verdict.
Notes of what it is about to do are none. Processor seconds are those of the process and of all that it has started, the
verifier's among them. Commands take turns; of each the round with the least processor time counts. Prints a table and
writes ``benchmarks/results/first.json``; commands that were not asked for stay as they are there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from sharpen.objective.storage import files, runfolder

RESULT = Path(__file__).parents[1] / "results" / "first.json"
SHARPEN = str(Path(sys.executable).with_name("sharpen"))
ANY, JSON = r"\S", r"^\s*\{"
# Command, and the first line that is a result of it. {run} is a folder of `llm train --steps 1`, {out} a new one.
COMMANDS = {
    "theory fixed-points --alpha 2": ANY,
    "theory optimum --alpha 2": ANY,
    "theory response": ANY,
    "theory derive T4": ANY,
    "toy simulate --out {out}": r"natural|softmax",
    "explore --out {out}.html": ANY,
    "paper list": ANY,
    "paper status": ANY,
    "llm train --out {out}": r"^step\s+1/",
    "llm sample --problems 8": JSON,
    "llm eval --problems 64": r"pass@1",
    "llm forecast": r"[Ss]harpening will|cannot tell|accuracy",
    "llm outcomes --problems 8 --out {out}": r"\d",
    "llm audit --policy {run}": r"KL\(pi",
}
LIMIT = 300.0  # seconds


def used(process: psutil.Process) -> float:
    """Return the CPU-seconds of a process and everything that it has started, living or waited for."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:  # ended just now; its parent has its time as soon as it has waited
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def until(command: list[str], result: str) -> dict[str, Any]:
    """Return the seconds until a command prints a line that is a result; it is killed then."""
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    start = time.perf_counter()
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=variables, text=True, **streams) as running:
        process, seen = psutil.Process(running.pid), ""
        assert running.stdout is not None
        try:
            for line in running.stdout:
                seen += line
                if re.search(result, line):
                    return {"cpu_seconds": used(process), "seconds": time.perf_counter() - start, "line": line.strip()}
                if time.perf_counter() - start > LIMIT:
                    break
        finally:
            for one in (*process.children(recursive=True), process):
                one.kill()
    raise RuntimeError(f"{' '.join(command)}: no line with {result!r} in:\n{seen[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[""], help="commands that begin so")
    given = parser.parse_args()
    asked = {name: result for name, result in COMMANDS.items() if name.startswith(tuple(given.only))}
    about = runfolder.provenance()
    where = {name: about[name] for name in ("commit", "machine")} | {"rounds": given.rounds, "threads": 1}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in asked}
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        if any("{run}" in name for name in asked):
            few = ["--eval-problems", "8", "--eval-samples", "4", "--set", "evaluation.alpha_prompts=0"]
            subprocess.run(
                [SHARPEN, "llm", "train", "--steps", "1", "--out", run, *few], capture_output=True, check=True
            )
        for turn in range(given.rounds):
            for place, (name, result) in enumerate(asked.items()):
                words = name.format(run=run, out=f"{folder}/{turn}-{place}").split()
                found[name].append(until([SHARPEN, *words], result))
    rows = {name: min(rounds, key=lambda one: one["cpu_seconds"]) for name, rounds in found.items()}
    for name, row in rows.items():
        print(f"{name:40} {row['cpu_seconds']:6.1f} CPU s {row['seconds']:6.1f} s  {row['line'][:70]}")
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["commands"] if RESULT.exists() else {}
    kept |= {name: {**row, "measured": {**where, "load": os.getloadavg()}} for name, row in rows.items()}
    result = {
        "command": "python benchmarks/speed/first.py",
        "commands": {name: kept[name] for name in COMMANDS if name in kept},
    }
    files.write(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
