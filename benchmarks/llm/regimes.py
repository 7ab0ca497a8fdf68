"""The five regimes of the objective on the embedded model, several seeds each: the table of the README.

Runs ``sharpen llm train`` once for each regime and seed (runs that are finished are read, interrupted ones continued),
prints a Markdown table of means with 95% t-intervals over seeds, and writes ``benchmarks/results/regimes.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import llm_runs
import numpy as np

from sharpen.objective import PRESETS, Objective
from sharpen.objective.storage.runfolder import provenance

RESULT = Path(__file__).parents[1] / "results" / "regimes.json"
LAST_STEPS = 10  # training metrics are means over the last ten updates
REGIMES = {**PRESETS, "task-likelihood": Objective(alpha=1.0, beta_inv=10.0, mode="optimization")}
# A quarter of the embedded recipe's batch, so that 300 updates of five regimes take an hour or two on one core, and a
# third of its learning rate: with 64 samples an update, the recipe's own lets even the task reward fall back.
SETTINGS = [
    *("--prompts-per-step", "8", "--samples-per-prompt", "8", "--learning-rate", "1e-4"),
    *("--checkpoint-every", "100", "--engine", "transformers", "--eval-problems", "128"),
]


def numbers_of(folder: Path) -> dict[str, float]:
    """Return a finished run's numbers."""
    evaluation = llm_runs.evaluation(folder)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-LAST_STEPS:]
    samples = evaluation["base"]["samples"]
    numbers = {}
    for name in ("base", "last"):
        measures = evaluation[name]
        numbers[f"{name} pass@1"] = measures["pass@1"]
        numbers[f"{name} pass@{samples}"] = measures[f"pass@{samples}"]
        numbers[f"{name} length"] = measures["response_length"]
    for name in ("kl_ref", "ref_logprob"):
        numbers[name] = float(np.mean([record[name] for record in records]))
    return numbers | llm_runs.slopes(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--out", type=Path, default=Path("runs/regimes"))
    options = parser.parse_args()
    started = provenance()
    flags = {
        options.out / f"{regime}-{seed}": [
            *llm_runs.objective_flags(objective),
            *("--seed", str(seed), "--steps", str(options.steps)),
            *SETTINGS,
        ]
        for seed in range(options.seeds)  # outside, so that an interrupted table has every regime
        for regime, objective in REGIMES.items()
    }
    llm_runs.train_all(flags, options.jobs)
    rows = {
        regime: llm_runs.by_seed([options.out / f"{regime}-{seed}" for seed in range(options.seeds)], numbers_of)
        for regime in REGIMES
    }
    print(llm_runs.table(rows))
    record = {"steps": options.steps, "seeds": options.seeds, "settings": SETTINGS, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({**record, "provenance": started}, indent=2) + "\n")


if __name__ == "__main__":
    main()
