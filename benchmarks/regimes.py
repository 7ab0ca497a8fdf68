"""The five regimes of the objective on the embedded model, several seeds each: the table of the README.

Runs ``sharpen llm train`` once for each regime and seed (runs that are finished are read, interrupted ones continued),
prints a Markdown table of means with 95% t-intervals over seeds, and writes ``benchmarks/results/regimes.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.stats import t

from sharpen.objective import PRESETS, Objective
from sharpen.objective.runfolder import provenance

RESULT = Path(__file__).parent / "results" / "regimes.json"
SHARPEN = str(Path(sys.executable).with_name("sharpen"))
LAST_STEPS = 10  # training metrics are means over the last ten updates
REGIMES = {**PRESETS, "task-likelihood": Objective(alpha=1.0, beta_inv=10.0, mode="optimization")}
# A quarter of the embedded recipe's batch, so that 300 updates of five regimes take an hour or two on one core, and a
# third of its learning rate: with 64 samples an update, the recipe's own lets even the task reward fall back.
SETTINGS = [
    *("--prompts-per-step", "8", "--samples-per-prompt", "8", "--learning-rate", "1e-4"),
    *("--checkpoint-every", "100"),
]


def flags(objective: Objective) -> list[str]:
    """Return an objective as flags of the command line."""
    names = {"--alpha": objective.alpha, "--beta-inv": objective.beta_inv, "--mode": objective.mode}
    return [word for flag, value in names.items() for word in (flag, str(value))]


def run(regime: str, seed: int, steps: int, folder: Path) -> dict[str, float]:
    """Train, or read what was trained, and return a run's numbers."""
    command = [SHARPEN, "llm", "train", *flags(REGIMES[regime]), "--seed", str(seed), "--steps", str(steps), *SETTINGS]
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
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/regimes"))
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {regime: [] for regime in REGIMES}
    for seed in range(options.seeds):  # outside, so that an interrupted table has every regime
        for regime in REGIMES:
            runs[regime].append(run(regime, seed, options.steps, options.out / f"{regime}-{seed}"))
    rows = {regime: {name: [n[name] for n in numbers] for name in numbers[0]} for regime, numbers in runs.items()}
    names = list(next(iter(rows.values())))
    print("| regime | " + " | ".join(names) + " |\n" + "| --- " * (len(names) + 1) + "|")
    for regime, columns in rows.items():
        cells = ["{:.3f} ± {:.3f}".format(*mean_interval(columns[name])) for name in names]
        print(f"| {regime} | " + " | ".join(cells) + " |")
    RESULT.parent.mkdir(exist_ok=True)
    record = {"steps": options.steps, "seeds": options.seeds, "settings": SETTINGS, "rows": rows}
    record["provenance"] = provenance()
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
