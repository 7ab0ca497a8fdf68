"""What was removed from a step of SmolLM2: each part as it was before and as it is, in turn, in one process.

    python benchmarks/speed/removed.py [--rounds 3]

One thread, bfloat16, SmolLM2-135M-Instruct (``sharpen llm fetch smollm2``) and 64 rows, as in 8 prompts x 8 samples.

1. Log-probabilities and entropies of 640 tokens from their logits, and the gradient of the log-probabilities: on all
   logits at once by autograd, and by parts (``llm/models/vocabulary.py``).
2. The next token of 64 rows from their logits: all rows at once, and a few at a time (``llm/rollout/sampler.py``).
3. A rollout of 48 tokens: with a cache that is copied with every token, and with room in it
   (``llm/models/decoding.py``). The responses and their log-probabilities have to be the same, bit by bit.

Processor seconds, of each the least of the rounds; the first round warms up where there are several. Prints a table and
writes ``benchmarks/results/removed.json``.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sharpen.llm.models import decoding, vocabulary
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.rollout import Sampling, sampler
from sharpen.llm.rollout.requests import eos_token_ids
from sharpen.llm.rollout.transformers_engine import TransformersEngine
from sharpen.objective.storage import files, runfolder

RESULT = Path(__file__).parents[1] / "results" / "removed.json"
VOCABULARY, ROWS, TOKENS, PROMPT = 49152, 64, 48, 40
NEVER = 2**60


def in_turn(before: Callable[[], Any], now: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Return the least CPU-seconds of two ways to the same result."""
    work, taken = {"before": before, "now": now}, {"before": [], "now": []}
    for turn in range(rounds):
        for name in list(work)[:: -1 if turn % 2 else 1]:
            start = time.process_time()
            work[name]()
            taken[name].append(time.process_time() - start)
    found = {name: min(seconds[1:] or seconds) for name, seconds in taken.items()}
    return {**found, "now_over_before": found["now"] / found["before"]}


def of_vocabulary(rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    logits_KV = torch.randn(10 * ROWS, VOCABULARY).bfloat16().requires_grad_()
    token_K, slope_K = torch.randint(VOCABULARY, (10 * ROWS,)), torch.randn(10 * ROWS)
    gradients: list[torch.Tensor] = []

    def step(statistics: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
        logits_KV.grad = None
        with torch.no_grad():
            statistics(logits_KV, token_K, 1.0, True)  # scored first
        statistics(logits_KV, token_K, 1.0, False)[0].backward(slope_K)
        assert logits_KV.grad is not None
        gradients[:] = [*gradients[-1:], logits_KV.grad]

    found = in_turn(lambda: step(vocabulary._statistics), lambda: step(vocabulary.statistics), rounds)
    assert torch.allclose(gradients[0], gradients[1], rtol=0.01, atol=1e-4)
    return found


def of_sampling(rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    logits_RV, uniform_R = torch.randn(ROWS, VOCABULARY).bfloat16(), torch.rand(ROWS, dtype=torch.float64)
    part, drawn = sampler.PART, []

    def draw(logits: int) -> None:
        sampler.PART = logits
        drawn[:] = [*drawn[-1:], sampler.sample(logits_RV, uniform_R, 1.0, 1.0)]

    found = in_turn(lambda: draw(NEVER), lambda: draw(part), 4 * rounds)
    sampler.PART = part
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    return found


def of_cache(rounds: int) -> dict[str, float]:
    source = resolve("smollm2")
    model, tokenizer = load_model(source, "cpu", "bfloat16").eval(), load_tokenizer(source)
    eos_ids = eos_token_ids(model, tokenizer)
    engine = TransformersEngine(model, max_length=PROMPT + TOKENS, eos_ids=eos_ids, tokenizer=tokenizer)
    prompts = [[100 + 7 * place + 11 * row for place in range(PROMPT)] for row in range(ROWS // 8)]
    least, drawn = decoding.ROOMY_FROM, []

    def sample(parameters: int) -> None:
        decoding.ROOMY_FROM = parameters
        drawn[:] = [*drawn[-1:], engine.generate(prompts, 8, Sampling(TOKENS, ignore_eos=True), 0)]

    found = in_turn(lambda: sample(NEVER), lambda: sample(least), rounds)
    decoding.ROOMY_FROM = least
    assert drawn[0] == drawn[1]
    return found


WORK = {
    "statistics of 640 tokens over the vocabulary, with gradient": of_vocabulary,
    "next tokens of 64 rows from their logits": of_sampling,
    "rollout of 64 x 48 tokens, by its cache": of_cache,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    about = runfolder.provenance()
    where = {name: about[name] for name in ("commit", "machine")} | {"rounds": given.rounds}
    parts = {}
    for name, measure in WORK.items():
        parts[name] = {**measure(given.rounds), "load": os.getloadavg()}
        print(f"{name}: {parts[name]['before']:.4f} -> {parts[name]['now']:.4f} CPU s", flush=True)
    files.write(
        RESULT, json.dumps({"command": "python benchmarks/speed/removed.py", **where, "parts": parts}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
