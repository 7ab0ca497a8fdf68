"""What tokens after end-of-sequence cost the embedded model: why sharpening at fixed length prefers long answers.

Samples responses of 64 tokens from the base model with end-of-sequence ignored, splits each at its first
end-of-sequence token, and writes log p before and after it, by length of the answer, to
``benchmarks/results/past_the_end.json``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.rollout.requests import row_seed
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.templates import encode
from sharpen.objective.storage.runfolder import provenance

RESULT = Path(__file__).parents[1] / "results" / "past_the_end.json"
PROMPTS, SAMPLES, TOKENS, SEED = 128, 8, 64, 1
LENGTHS = {"direct": (1, 10), "chain": (11, 30), "careful": (31, TOKENS)}  # tokens of the ways to answer, about


def main() -> None:
    source = resolve("embedded")
    model, tokenizer = load_model(source, "cpu", "float32").eval(), load_tokenizer(source)
    texts = [prompt.text for prompt in load_source("embedded", "test", PROMPTS).prompts().prompts]
    prompts = [encode(tokenizer, text, "plain") for text in texts]
    room = TOKENS + max(map(len, prompts))
    engine = make_engine(
        "transformers", model=model, location=source.location, max_length=room, seed=SEED, tokenizer=tokenizer
    )
    seeds = [row_seed(SEED, place, sample) for place in range(PROMPTS) for sample in range(SAMPLES)]
    rollout = engine.generate(prompts, SAMPLES, Sampling(TOKENS, ignore_eos=True), SEED, row_seeds=seeds)
    ids = np.array(rollout.response_ids)
    logprobs = token_logprobs(model, rollout.prompt_ids, rollout.response_ids, micro_batch_tokens=2048).logprobs_BT
    ends = ids == tokenizer.eos_token_id
    answer = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, TOKENS)
    within = np.arange(TOKENS) < answer[:, None]
    before, after = (np.where(mask, logprobs.numpy(), 0.0).sum(axis=1) for mask in (within, ~within))
    record: dict[str, object] = {
        "nats_a_token": {"before": before.sum() / within.sum(), "after": after.sum() / (~within).sum()}
    }
    for name, (low, high) in LENGTHS.items():
        rows = (answer >= low) & (answer <= high)
        means = {"answer": before[rows].mean(), "after": after[rows].mean(), "all": (before + after)[rows].mean()}
        record[name] = {"share": rows.mean(), "tokens": answer[rows].mean(), "log_p": means}
        print(f"{name:8} {rows.mean():.2f} of samples, {answer[rows].mean():4.1f} tokens:", means)
    RESULT.write_text(json.dumps({**record, "provenance": provenance()}, indent=2, default=float) + "\n")


if __name__ == "__main__":
    main()
