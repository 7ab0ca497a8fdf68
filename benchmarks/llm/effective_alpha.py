"""How near training comes to the p^2 that its objective names: learners on the embedded model, several seeds each.

Runs ``sharpen llm train`` once for each learner and seed (finished runs are read, interrupted ones continued), prints a
Markdown table of the slopes of log pi on log p, and writes ``benchmarks/results/effective_alpha.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import llm_runs

from sharpen.objective import PRESETS
from sharpen.objective.storage.runfolder import provenance

RESULT = Path(__file__).parents[1] / "results" / "effective_alpha.json"
# On samples of the policy at temperature 1.2 the residual also sees what the policy has begun to give up.
LEARNERS = {"trajectory balance": ["--learner", "tb-batch", "--temperature", "1.2"], "RLOO": []}
SETTINGS = [
    *("--prompts-per-step", "32", "--samples-per-prompt", "8", "--learning-rate", "2e-4"),
    *("--checkpoint-every", "100", "--engine", "transformers", "--eval-problems", "64"),
]


def numbers_of(folder: Path) -> dict[str, float]:
    """Return a finished run's slopes and accuracy."""
    return {**llm_runs.slopes(folder), "pass@1": llm_runs.evaluation(folder)["last"]["pass@1"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--out", type=Path, default=Path("runs/effective-alpha"))
    parser.add_argument("--learner", choices=LEARNERS, action="append", help="only this one; repeatable")
    options = parser.parse_args()
    started = provenance()
    learners = options.learner or list(LEARNERS)
    flags = {
        options.out / f"{learner.replace(' ', '-')}-{seed}": [
            *llm_runs.objective_flags(PRESETS["tempered"]),
            *("--seed", str(seed), "--steps", str(options.steps)),
            *LEARNERS[learner],
            *SETTINGS,
        ]
        for seed in range(options.seeds)
        for learner in learners
    }
    llm_runs.train_all(flags, options.jobs)
    rows = {}
    for learner in learners:
        folders = [options.out / f"{learner.replace(' ', '-')}-{seed}" for seed in range(options.seeds)]
        rows[learner] = llm_runs.by_seed(folders, numbers_of)
    print(llm_runs.table(rows))
    record = {"steps": options.steps, "target": PRESETS["tempered"].alpha, "settings": SETTINGS, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({**record, "provenance": started}, indent=2) + "\n")


if __name__ == "__main__":
    main()
