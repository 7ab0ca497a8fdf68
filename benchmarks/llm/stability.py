"""What is the objective's and what the optimizer's? The null control and p^2 on a model, several optimizers.

    python benchmarks/llm/stability.py [--seeds 0 1 2] [--alphas 1 2] [--optimizers 0 1]
        [--model embedded | smollm2] [--part NAME]

Every run starts at the base model and is the same but for its objective (alpha 1, whose optimum is the base, and alpha
2) and its optimizer. The embedded model: AdamW with epsilon 1e-8 and 1e-2 and the customary weight decay of .01, AdamW
without decay, SGD with momentum at three rates and as much decay of a weight in an update, and AdamW whose steps go no
farther than ``MAX_KL``. Responses have a fixed length, 4 prompts of 4 samples a step, no warm-up. SmolLM2, on the first
letters of words: the settings of the null control in paper_repro/real.yaml, with epsilon 1e-8, 1e-6 and 1e-4, and
without decay.

Writes ``benchmarks/results/stability.json``: of every run the KL to the base before each update (mean of log pi - log p
over the step's samples, nats a response), the KL of each step, its norm, its scale, its size over that of the
advantages, and the slope of log pi on log p at the last step. A run that is stored is not made again; with ``--part``
runs go to a file of that name under ``build/stability``, so that several processes can share the work, and a call
without it joins these files.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "stability.json"
PARTS = ROOT / "build" / "stability"
UPDATES, RATE, DECAY, MAX_KL = 12, 2e-4, 0.01, 0.05
ADAM = {"learning_rate": RATE, "warmup_steps": 0, "weight_decay": DECAY, "measure_step": True}


def sgd(rate: float) -> dict[str, Any]:
    """Return SGD with momentum at a rate, by which the weights shrink in an update as much as by AdamW."""
    own = {"kind": "sgd", "learning_rate": rate, "weight_decay": RATE * DECAY / rate}
    return own | {"warmup_steps": 0, "measure_step": True}


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam, epsilon 1e-8": ADAM,
    "adam, epsilon 1e-2": {**ADAM, "epsilon": 1e-2},
    "adam, epsilon 1e-8, no decay": {**ADAM, "weight_decay": 0.0},
    "sgd, momentum 0.9": sgd(0.02),
    "adam, epsilon 1e-8, bounded": {**ADAM, "max_kl": MAX_KL},
    "sgd, momentum 0.9, rate 0.002": sgd(0.002),
    "sgd, momentum 0.9, rate 0.0002": sgd(0.0002),
}
# Of SmolLM2: the optimizer of paper_repro/real.yaml, and what else is asked of it.
STUDY = {"learning_rate": 2e-5, "warmup_steps": 2, "measure_step": True}
REAL_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam, epsilon 1e-8": STUDY,
    "adam, epsilon 1e-6": {**STUDY, "epsilon": 1e-6},
    "adam, epsilon 1e-4": {**STUDY, "epsilon": 1e-4},
    "adam, epsilon 1e-8, no decay": {**STUDY, "weight_decay": 0.0},
}
# Settings of a run, optimizers and the number of updates.
EMBEDDED = {"prompts_per_step": 4, "samples_per_prompt": 4, "ignore_eos": True}
REAL = {"data": "first-letter", "prompts_per_step": 8, "samples_per_prompt": 8, "dtype": "bfloat16", "max_length": 192}
MODELS = {"embedded": (EMBEDDED, OPTIMIZERS, UPDATES), "smollm2": (REAL, REAL_OPTIMIZERS, 10)}
ALPHAS = (1.0, 2.0)
KEPT = ("kl_ref", "gradient_norm", "step_kl", "step_norm", "step_scale", "step_per_advantage", "effective_alpha")


def measure(model: str, alpha: float, optimizer: dict[str, Any], seed: int, updates: int) -> dict[str, Any]:
    """Return what each update of one run measures, by name, lists over updates."""
    from sharpen.llm.configs.train import resolve
    from sharpen.llm.distributed.world import World
    from sharpen.llm.models.registry import resolve as resolve_model
    from sharpen.llm.tasks.sources import load_source
    from sharpen.llm.training.setup import prepare
    from sharpen.llm.training.trainer import Trainer

    config = resolve(
        {
            "model": model,
            "objective": {"alpha": alpha, "mode": "sampling"},
            "engine": "transformers",
            "seed": seed,
            "optimizer": optimizer,
            **MODELS[model][0],
        }
    )
    found = resolve_model(model)
    setup, world = prepare(config, found, World()), World()
    prompts = load_source(config.data or found.default_data, config.split, None).prompts()
    trainer = Trainer(
        config,
        setup.model,
        setup.tokenizer,
        setup.engine,
        prompts,
        None,
        setup.template,
        reference=setup.reference,
        world=world,
        compute=setup.compute,
        master=setup.master,
    )
    start, records = time.process_time(), []
    for _ in range(updates):
        record, _ = trainer.step()
        records.append(record)
    setup.engine.close()
    return {"cpu_seconds": round(time.process_time() - start, 1)} | {
        name: [_short(record[name]) for record in records] for name in KEPT
    }


def _short(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(f"{number:.4g}")


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _stored(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def main() -> None:
    """Make the runs that are missing and write them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--alphas", type=float, nargs="*", default=list(ALPHAS))
    parser.add_argument("--optimizers", type=int, nargs="*", help="By place; all if not said.")
    parser.add_argument("--model", choices=list(MODELS), default="embedded")
    parser.add_argument("--updates", type=int, help="Updates of a run, if not as many as are stored.")
    parser.add_argument("--part", help="Write to this file of build/stability instead.")
    asked = parser.parse_args()
    target = PARTS / f"{asked.part}.json" if asked.part else RESULT
    runs = _stored(target) if asked.part else _stored(RESULT).get("runs", {})
    if not asked.part:
        for part in sorted(PARTS.glob("*.json")):
            runs |= _stored(part)
    _, optimizers, updates = MODELS[asked.model]
    places = range(len(optimizers)) if asked.optimizers is None else asked.optimizers
    for seed in asked.seeds:
        for alpha in asked.alphas:
            for name, optimizer in [list(optimizers.items())[place] for place in places]:
                key = f"{asked.model} | alpha {alpha:g} | {name} | seed {seed}"
                if key not in runs:
                    runs[key] = measure(asked.model, alpha, optimizer, seed, asked.updates or updates)
                    print(key, runs[key]["kl_ref"][-1], flush=True)
                    _write(target, runs, whole=not asked.part)
    _write(target, runs, whole=not asked.part)


def _write(target: Path, runs: dict[str, Any], *, whole: bool) -> None:
    import torch

    target.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": "python benchmarks/llm/stability.py",
        "commit": _commit(),
        "machine": f"{platform.machine()}, CPU, torch {torch.__version__}",
        "settings": {
            "max_kl": MAX_KL,
            "models": {
                model: {"run": run, "optimizers": optimizers, "updates": updates}
                for model, (run, optimizers, updates) in MODELS.items()
            },
        },
        "runs": dict(sorted(runs.items())),
    }
    target.write_text(json.dumps(about if whole else runs, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
