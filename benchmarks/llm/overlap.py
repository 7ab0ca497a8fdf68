"""Steps that sample the next batch beside the update, against steps that sample first.

    python benchmarks/llm/overlap.py [embedded] [smollm2]

Pairs of steps, first without and then with ``sample_ahead``, in turn, in float32 on a CPU with the transformers engine
and responses of a fixed length; each thread computes with one thread of its own. Predicted is what the step-time model
makes of the phases of the paired step: max(rollout, logprobs + reward + update) + push.

Sampler and trainer are two threads of one process: seconds in which one waits for the interpreter lock are in what is
measured and not in what is predicted. Other programs on the machine make a step longer: ``load`` says how busy it was.
Writes ``benchmarks/results/overlap.json``.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from sharpen.llm.configs.train import resolve as settings
from sharpen.llm.distributed.steptime import overlapped
from sharpen.llm.distributed.world import World
from sharpen.llm.models import store
from sharpen.llm.models.registry import resolve
from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.training import trainer
from sharpen.llm.training.setup import prepare
from sharpen.objective import PRESETS
from sharpen.objective.storage.runfolder import provenance

RESULT = Path(__file__).resolve().parents[1] / "results" / "overlap.json"
# prompts a step, samples of each, tokens of a row, pairs
CASES = {"embedded": (8, 8, 40, 5), "smollm2": (4, 4, 48, 4)}


Case = tuple[int, int, int, int]


def made(model: str, case: Case, ahead: int, **where: str) -> trainer.Trainer:
    """Return a trainer whose steps have the same rows whatever is sampled ahead."""
    prompts, samples, length, pairs = case
    config = settings(
        {
            "model": model,
            "objective": PRESETS["sharpening"].to_dict(),
            "steps": pairs + 2,
            "prompts_per_step": prompts,
            "samples_per_prompt": samples,
            "max_length": length,
            "tokens_per_microbatch": 1024,
            "ignore_eos": True,
            "engine": "transformers",
            "sample_ahead": ahead,
            **where,
        }
    )
    setup = prepare(config, resolve(model), World())
    problems = PromptSet("sums", tuple(Prompt(str(i), f"{10 + i}+11+12=") for i in range(32)))
    own = (config, setup.model, setup.tokenizer, setup.engine, problems, None, "plain")
    placed: dict[str, Any] = {"world": setup.world, "compute": setup.compute, "master": setup.master}
    return trainer.Trainer(*own, reference=setup.reference, **placed)


def compared(model: str, case: Case, **where: str) -> dict[str, Any]:
    """Return pairs of steps and what they say; ``where``: the settings ``device`` and ``dtype``."""
    apart, beside = (made(model, case, ahead, **where) for ahead in (0, 1))
    pairs = []
    for own in (apart, beside):
        own.step()  # not counted
    for _ in range(case[3]):
        load = os.getloadavg()[0]
        pair = {"load": load, "apart": apart.step()[0]["seconds"], "beside": beside.step()[0]["seconds"]}
        pairs.append(pair)
        print(
            model,
            {k: round(v["total"], 2) for k, v in pair.items() if isinstance(v, dict)},
            f"load {load:.1f}",
            file=sys.stderr,
        )
    phases = ("rollout", "logprobs", "reward", "update", "push")
    found = {
        "predicted": [overlapped({p: one["apart"][p] for p in phases}) / one["apart"]["total"] for one in pairs],
        "measured": [one["beside"]["total"] / one["apart"]["total"] for one in pairs],
    }
    ratios = {n: {"median": statistics.median(r), "least": min(r), "most": max(r)} for n, r in found.items()}
    prompts, samples, length, _ = case
    sizes = {"rows": prompts * samples, "length": length, "threads_each": 1}
    return {**sizes, "step_over_step_apart": ratios, "pairs": pairs, "provenance": provenance()}


def here(models: Iterable[str]) -> list[str]:
    """Return those of the models that need not be fetched or converted."""
    return [name for name in models if name == "embedded" or store.is_ready(resolve(name).location)]


def main() -> None:
    torch.set_num_threads(1)
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["models"] if RESULT.exists() else {}
    for model in here(sys.argv[1:] or CASES):
        kept[model] = compared(model, CASES[model], device="cpu", dtype="float32")
        print(
            model, {n: {k: round(v, 2) for k, v in r.items()} for n, r in kept[model]["step_over_step_apart"].items()}
        )
        RESULT.write_text(json.dumps({"models": kept}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
