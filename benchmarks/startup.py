"""CPU time of ``sharpen --help`` beside ``python -c "import typer"``, in turn, in one run.

Prints a table and writes ``benchmarks/results/startup.json``. Goal: less than half a second more.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

RUNS = 15
SHARPEN = str(Path(sys.executable).with_name("sharpen"))
COMMANDS = {
    "import typer": [sys.executable, "-c", "import typer"],
    "import sharpen, an Objective": [sys.executable, "-c", "import sharpen; sharpen.Objective(alpha=2)"],
    "sharpen --help": [SHARPEN, "--help"],
    "sharpen theory fixed-points": [SHARPEN, "theory", "fixed-points", "--alpha", "2", "--json"],
}
RESULT = Path(__file__).parent / "results" / "startup.json"


def cpu_seconds(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round_number in range(RUNS + 1):
        for name, command in COMMANDS.items():
            seconds = cpu_seconds(command)
            if round_number:  # the first round warms the file cache
                times[name].append(seconds)
    floor = statistics.median(times["import typer"])
    rows = {}
    for name, seconds in times.items():
        median = statistics.median(seconds)
        rows[name] = {"median_cpu_s": median, "min": min(seconds), "max": max(seconds), "ratio": median / floor}
        print(f"{name:30} {median:6.3f} s CPU  ({min(seconds):.3f} to {max(seconds):.3f})  x{median / floor:5.2f}")
    extra = rows["sharpen --help"]["median_cpu_s"] - floor
    print(f"sharpen --help takes {extra:.3f} s more than import typer (goal: below 0.5)")
    RESULT.parent.mkdir(exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "command": "python benchmarks/startup.py",
        "commit": commit,
        "python": platform.python_version(),
        "runs": RUNS,
        "rows": rows,
        "help_minus_typer_s": extra,
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
