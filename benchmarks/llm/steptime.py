"""The step-time model on one core of this machine: constants fitted on some steps, phases of others predicted.

    python benchmarks/llm/steptime.py [embedded] [smollm2]

Steps of the embedded model and of SmolLM2 (where ``sharpen llm fetch smollm2`` has been run) in float32 with the
transformers engine and responses of a fixed length, timed in CPU-seconds of one thread, which other programs on the
machine disturb less. Three constants (seconds a floating-point operation, a byte and a kernel) are fitted for each
model on its first two steps, rollouts apart from passes of the trainer, and the last is predicted. Writes
``benchmarks/results/steptime.json``, where models that were not asked for stay as they are.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from sharpen.llm.configs.train import resolve as settings
from sharpen.llm.distributed.memory import shape_of
from sharpen.llm.distributed.steptime import Work, step_work
from sharpen.llm.distributed.world import World, disconnect
from sharpen.llm.models import store
from sharpen.llm.models.registry import load_architecture, resolve
from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.training import trainer
from sharpen.llm.training.setup import prepare
from sharpen.objective import PRESETS
from sharpen.objective.storage.runfolder import provenance

RESULT = Path(__file__).parents[1] / "results" / "steptime.json"
# prompts a step, samples of each, tokens of a row, tokens of a microbatch, activation checkpointing
CASES = {
    "embedded": [(4, 8, 32, 1024, False), (32, 8, 64, 1024, True), (16, 8, 48, 1024, False)],
    "smollm2": [(1, 2, 48, 512, False), (1, 4, 60, 512, True), (1, 3, 54, 512, False)],
}
STEPS = {"embedded": 3, "smollm2": 2}  # the first one is not counted
PHASES = ("rollout", "logprobs", "update")


def measured(model: str, case: tuple[int, int, int, int, bool]) -> tuple[dict[str, Work], dict[str, float]]:
    """Return the work of each phase and its CPU-seconds, the least of the steps."""
    prompts, samples, length, microbatch, checkpointing = case
    config = settings(
        {
            "model": model,
            "objective": PRESETS["sharpening"].to_dict(),
            "prompts_per_step": prompts,
            "samples_per_prompt": samples,
            "max_length": length,
            "tokens_per_microbatch": microbatch,
            "gradient_checkpointing": checkpointing,
            "ignore_eos": True,
            "engine": "transformers",
            "device": "cpu",
            "dtype": "float32",
            "graph_tokens": 0,
            "one_pass": "never",
            "share_prompts": "never",
        }
    )
    setup = prepare(config, resolve(model), World())
    problems = PromptSet("sums", tuple(Prompt(str(i), f"{10 + i}+11+12=") for i in range(32)))
    own = trainer.Trainer(
        config, setup.model, setup.tokenizer, setup.engine, problems, None, "plain", reference=setup.reference
    )
    records = [own.step()[0] for _ in range(STEPS[model])][1:]
    prompt = statistics.mean(map(len, own.prompt_ids))
    setup.engine.close()
    disconnect()
    shape = shape_of(load_architecture(resolve(model)))
    work = step_work(config, shape, processes=1, dtype="float32", divided=False, prompt=prompt)
    seconds = {phase: min(record["seconds"][phase] for record in records) for phase in PHASES}
    return {phase: work[phase] for phase in PHASES}, seconds


def columns(work: Work) -> list[float]:
    return [work.flop, work.memory, work.kernels]


def fitted(cases: list[tuple[dict[str, Work], dict[str, float]]], phases: tuple[str, ...]) -> np.ndarray:
    """Return seconds a FLOP, a byte and a kernel, none below 0, with the least sum of squared relative errors."""
    rows = [np.array(columns(work[phase])) / seconds[phase] for work, seconds in cases for phase in phases]
    scale = np.max(rows, axis=0)
    return nnls(np.array(rows) / scale, np.ones(len(rows)))[0] / scale


def compared(model: str) -> dict[str, Any]:
    """Fit on all cases but the last and predict that."""
    found = [measured(model, case) for case in CASES[model]]
    *known, (work, seconds) = found
    passes = ("logprobs", "update")
    constants = {"rollout": fitted(known, ("rollout",)), **dict.fromkeys(passes, fitted(known, passes))}
    predicted = {phase: float(np.dot(constants[phase], columns(work[phase]))) for phase in PHASES}
    return {
        "fitted_on": [list(case) for case in CASES[model][:-1]],
        "predicted_case": list(CASES[model][-1]),
        "constants": {"rollout": constants["rollout"].tolist(), "passes": constants["update"].tolist()},
        "measured_cpu_seconds": seconds,
        "predicted_cpu_seconds": predicted,
        "relative_error": {phase: predicted[phase] / seconds[phase] - 1 for phase in PHASES},
        "all_measured": [seconds for _, seconds in found],
        "provenance": provenance(),
    }


def main() -> None:
    torch.set_num_threads(1)
    trainer.__dict__["time"] = SimpleNamespace(perf_counter=time.process_time)  # the clock of the phases
    asked = sys.argv[1:] or CASES
    models = [name for name in asked if name == "embedded" or store.is_ready(resolve(name).location)]
    found = {model: compared(model) for model in models}
    for model, result in found.items():
        print(model, {phase: f"{error:+.1%}" for phase, error in result["relative_error"].items()})
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["models"] if RESULT.exists() else {}
    RESULT.write_text(json.dumps({"models": {**kept, **found}}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
