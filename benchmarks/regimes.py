"""The four regimes on the embedded model, several seeds each: the table of the README.

Runs ``sharpen llm train`` once for each preset and seed (runs that are finished are read, interrupted ones continued),
prints a Markdown table of means with 95% t-intervals over seeds, and writes ``benchmarks/results/regimes.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from sharpen.objective import PRESETS
from sharpen.objective.runfolder import provenance

RESULT = Path(__file__).parent / "results" / "regimes.json"
SHARPEN = str(Path(sys.executable).with_name("sharpen"))
LAST_STEPS = 10  # training metrics are means over the last ten updates


def run(preset: str, seed: int, steps: int, folder: Path) -> dict[str, float]:
    """Train, or read what was trained, and return a run's numbers."""
    command = [SHARPEN, "llm", "train", "--preset", preset, "--seed", str(seed), "--steps", str(steps)]
    subprocess.run([*command, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-LAST_STEPS:]
    samples = evaluation["base"]["samples"]
    numbers = {}
    for name in ("base", "last"):
        measures = evaluation[name]
        numbers[f"{name} pass@1"] = measures["pass@1"]
        numbers[f"{name} pass@{samples}"] = measures[f"pass@{samples}"]
        numbers[f"{name} length"] = measures["response_length"]
    for name in ("kl_ref", "ref_logprob", "effective_alpha"):
        numbers[name] = float(np.mean([record[name] for record in records if record[name] is not None]))
    return numbers


def mean_interval(numbers: list[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95% t-interval."""
    half = t.ppf(0.975, len(numbers) - 1) * np.std(numbers, ddof=1) / np.sqrt(len(numbers))
    return float(np.mean(numbers)), float(half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/regimes"))
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for preset in PRESETS:
        runs = [run(preset, seed, options.steps, options.out / f"{preset}-{seed}") for seed in range(options.seeds)]
        rows[preset] = {name: [numbers[name] for numbers in runs] for name in runs[0]}
    names = list(next(iter(rows.values())))
    print("| regime | " + " | ".join(names) + " |\n" + "| --- " * (len(names) + 1) + "|")
    for preset, columns in rows.items():
        cells = ["{:.3f} ± {:.3f}".format(*mean_interval(columns[name])) for name in names]
        print(f"| {preset} | " + " | ".join(cells) + " |")
    RESULT.parent.mkdir(exist_ok=True)
    record = {"steps": options.steps, "seeds": options.seeds, "rows": rows, "provenance": provenance()}
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
