"""What a model can do before training: each task's pass@1, pass@k, majority and greedy, as docs/tasks.md has them.

``python benchmarks/tasks.py [--model smollm2] [TASK[@TEMPLATE] ...]`` prints a table and writes what is measured to
``benchmarks/results/tasks.json``, a task after the other, so that a stopped run keeps what it has. Without names: the
word family, as raw completions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "tasks.json"
PROBLEMS, SAMPLES, LENGTH, SEED = 20, 8, 160, 42


def measured(model: str, task: str, length: int) -> dict[str, Any]:
    """Return the measures of one task; ``task`` may end in ``@TEMPLATE``."""
    from sharpen import llm

    name, _, template = task.partition("@")
    settings: dict[str, Any] = {"likelihoods": False, "engine": "transformers", "dtype": "bfloat16", "seed": SEED}
    settings |= {"max_length": length, "samples": SAMPLES, "data": name, **({"template": template} if template else {})}
    drawn = llm.evaluate(model, PROBLEMS, **settings).measures
    greedy = llm.evaluate(model, PROBLEMS, **{**settings, "samples": 1, "temperature": 0.0}).measures
    kept = ("pass@1", "pass@1_interval", f"pass@{SAMPLES}", f"maj@{SAMPLES}", "answered", "cut", "response_length")
    return {**{key: drawn[key] for key in kept}, "greedy": greedy["pass@1"], "problems": drawn["problems"]}


def main() -> None:
    from sharpen.llm.tasks.registry import WORD_TASKS

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("tasks", nargs="*", default=list(WORD_TASKS))
    given = parser.parse_args()
    known = json.loads(RESULT.read_text(encoding="utf-8"))["tasks"] if RESULT.exists() else {}
    for task in given.tasks:
        found = known[task] = measured(given.model, task, given.length)
        low, high = found["pass@1_interval"]
        print(
            f"| {task} | {found['pass@1']:.2f} [{low:.2f}, {high:.2f}] | {found[f'pass@{SAMPLES}']:.2f} |"
            f" {found[f'maj@{SAMPLES}']:.2f} | {found['greedy']:.2f} |",
            flush=True,
        )
        setting = {"model": given.model, "problems": PROBLEMS, "samples": SAMPLES, "seed": SEED, "dtype": "bfloat16"}
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, engine transformers"
        RESULT.write_text(
            json.dumps({**setting, "machine": machine, "tasks": known}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
