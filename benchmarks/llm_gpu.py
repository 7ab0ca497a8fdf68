"""The update of a 3-billion-parameter model on one GPU: tokens a second, MFU, peak memory; chunked log-probabilities.

    python benchmarks/llm_gpu.py [--smoke]

The weights are random (Qwen2.5-3B's shape) and so are the responses: an update costs the same whatever they say. The
step is the trainer's own, with FSDP2's float32 master weights, bf16 passes and activation checkpointing. ``--smoke``
runs the same code on the CPU at a tiny shape and proves nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.configs.train import resolve as settings
from sharpen.llm.distributed import world as processes
from sharpen.llm.distributed.sharding import shard
from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import make_batches, response_logprobs
from sharpen.llm.models.registry import REGISTRY, load_tokenizer, resolve, without_cudnn_attention
from sharpen.llm.models.weights import with_adapters
from sharpen.llm.rollout import Rollout, Sampling
from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import PRESETS

# Dense bf16 FLOP/s by the makers' data sheets, SXM versions.
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}
STEPS = 3  # the first one warms up
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"num_key_value_heads": 2, "vocab_size": 512}


class RandomEngine:
    """Responses of random tokens, all of one length: what an update costs does not depend on what they say."""

    name = "random"

    def __init__(self, vocabulary: int, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length

    def generate(self, prompts: list[list[int]], samples: int, sampling: Sampling, seed: int, **_: Any) -> Rollout:
        """Return random tokens."""
        rng = np.random.default_rng(seed)
        rows = [prompt for prompt in prompts for _ in range(samples)]
        tokens = [rng.integers(0, self.vocabulary, self.length - len(row)).tolist() for row in rows]
        logprobs = [[-float(np.log(self.vocabulary))] * len(row) for row in tokens]
        return Rollout(rows, tokens, logprobs, [False] * len(rows))

    def push_weights(self, model: Any) -> None:
        """Have none."""

    def sleep(self) -> None:
        """Hold no memory."""

    def close(self) -> None:
        """Hold nothing."""


def flop_of_update(config: Any, parameters: int, rows: int, length: int) -> float:
    """Return forward and backward FLOP, without what activation checkpointing computes again.

    6 N a token (tied embeddings count once, as the head), and for causal attention 3 x 4 x layers x heads x head width
    x length / 2 a token.
    """
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    attention = 6 * config.num_hidden_layers * width * length
    return rows * length * (6 * parameters + attention)


def step_settings(
    rows: int,
    length: int,
    microbatch: int,
    *,
    checkpointing: bool = True,
    lora: int | None = None,
    one_pass: str = "never",
) -> TrainConfig:
    """Return the settings of a step in groups of 8 responses to which the reference adds no pass.

    Args:
        rows: Sequences a step, a multiple of 8.
        length: Tokens of each, prompt and response.
        microbatch: Tokens of one forward and backward pass.
        checkpointing: Whether activations are computed again in the backward pass.
        lora: Rank of the adapters; None trains every weight.
        one_pass: The setting of that name: with ``never`` the responses are scored first, and scoring and update have a
            time each.
    """
    return settings(
        {
            "objective": PRESETS["sharpening"].to_dict() | {"reference": "policy"},
            "prompts_per_step": rows // 8,
            "samples_per_prompt": 8,
            "max_length": length,
            "tokens_per_microbatch": microbatch,
            "gradient_checkpointing": checkpointing,
            "lora": None if lora is None else {"rank": lora},
            "one_pass": one_pass,
            "importance": "none",
            "engine_tolerance": 1e9,
        }
    )


def update(fields: dict[str, Any], device: str, run: TrainConfig, *, steps: int = STEPS) -> dict[str, Any]:
    """Time the trainer's step without a rollout; its responses are random tokens that fill ``length``.

    Args:
        fields: The model's architecture; its weights are random.
        device: ``cuda``, or ``cpu`` for a rehearsal in float32.
        run: What :func:`step_settings` returns.
        steps: Steps in all; the first one warms up and is not counted.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = AutoConfig.for_model(**fields)
    without_cudnn_attention()  # as in a run
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    parameters = model.num_parameters()
    world = World()
    processes.connect(world, device)
    rows, length = run.prompts_per_step * run.samples_per_prompt, run.max_length
    if run.lora is not None:
        model = with_adapters(model, run.lora.rank, run.lora.alpha)
    if run.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    shard(model, compute=dtype)
    prompts = PromptSet("random", tuple(Prompt(str(i), f"{10 + i % 80}+11+12=") for i in range(run.prompts_per_step)))
    engine = RandomEngine(config.vocab_size, length)
    tokenizer = load_tokenizer(resolve("embedded"))
    trainer = Trainer(run, model, tokenizer, engine, prompts, None, "plain", world=world, compute=dtype)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found, record = [], {}
    for _ in range(steps):
        record, _ = trainer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(record["seconds"])
    seconds = float(np.median([phases["update"] for phases in found[1:]]))
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    peak = next((flops for key, flops in PEAK.items() if key in name), None)
    flop = flop_of_update(config, parameters, rows, length)
    processes.disconnect()
    return {
        "device": name,
        "parameters": parameters,
        "rows": rows,
        "length": length,
        "tokens_per_microbatch": run.tokens_per_microbatch,
        "activation_checkpointing": run.gradient_checkpointing,
        "lora_rank": None if run.lora is None else run.lora.rank,
        "update_seconds": seconds,
        "update_tokens_per_second": rows * length / seconds,
        "flop_per_second": flop / seconds if run.lora is None else None,
        "mfu": flop / seconds / peak if peak and run.lora is None else None,
        "logprob_seconds": float(np.median([phases["logprobs"] for phases in found[1:]])),
        "one_pass": record["one_pass"],
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
    }


def logprob_passes(fields: dict[str, Any], device: str, rows: int, length: int) -> dict[str, Any]:
    """Time and peak memory of forward and backward of one micro-batch, chunked and with all logits at once."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = AutoConfig.for_model(**{**fields, "num_hidden_layers": 2})  # the head is what differs
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, config.vocab_size, 8).tolist() for _ in range(rows)]
    responses = [rng.integers(0, config.vocab_size, length - 8).tolist() for _ in range(rows)]
    (batch,) = make_batches(prompts, responses, micro_batch_tokens=rows * length, device=device)

    def naive() -> torch.Tensor:
        logits = model(input_ids=batch.tokens_BL, use_cache=False).logits[:, 7:-1].float()
        return torch.log_softmax(logits, -1).gather(-1, batch.tokens_BL[:, 8:, None]).sum()

    def chunked() -> torch.Tensor:
        return response_logprobs(model, batch).logprobs_BT.sum()

    found: dict[str, Any] = {"rows": rows, "length": length, "layers": 2}
    totals = []
    for name, work in (("naive", naive), ("chunked", chunked)):
        times, last = [], 0.0
        for _ in range(3):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            start = time.perf_counter()
            total = work()
            total.backward()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            model.zero_grad()
            last = float(total.detach())
        totals.append(last)
        memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
        found[name] = {"seconds": min(times), "peak_memory_gib": memory}
    assert abs(totals[0] - totals[1]) <= (1e-2 if device == "cuda" else 1e-4) * abs(totals[0]), totals
    return found


def benchmark(smoke: bool = False) -> dict[str, Any]:
    fields = dict(REGISTRY["qwen2.5-3b"].architecture)
    if smoke:
        fields |= TINY
        device, rows, length, microbatch = "cpu", 16, 64, 512
    else:
        device, rows, length, microbatch = "cuda", 256, 2048, 16384
    return {
        "update": update(fields, device, step_settings(rows, length, microbatch)),
        "logprobs": logprob_passes(fields, device, 2 if smoke else 8, length),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny shape on the CPU")
    print(json.dumps(benchmark(parser.parse_args().smoke), indent=1))
