"""Power sampling, batched with early rejection, against one chain at a time with ``model.generate``."""

from __future__ import annotations

import math
import random
import statistics
import time
from typing import Any

import torch

from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
from sharpen.llm.rollout import make_engine
from sharpen.llm.sampling import Key, Power, Sample, power, run
from sharpen.llm.sampling.language_model import LanguageModel
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.templates import encode

ALPHA, STEPS, ROOM, SEED = 4.0, 10, 48, 0
PROMPTS, CHAINS = 16, 4
CHUNK = 4


def plain_chain(model: Any, prompt: list[int], rng: random.Random) -> Sample:
    """One chain as the algorithm is written down: each proposal whole, one call of ``generate`` each."""
    sample, current = Sample(), _continued(model, prompt, ROOM)
    sample.generated += len(current[0])
    for _ in range(STEPS):
        tokens, base, drawn = current
        kept = rng.randrange(len(tokens))
        new, new_base, new_drawn = _continued(model, prompt + tokens[:kept], ROOM - kept)
        sample.generated += len(new)
        sample.proposals += 1
        ratio = ALPHA * (sum(new_base) - sum(base[kept:])) + sum(drawn[kept:]) - sum(new_drawn)
        ratio += math.log(len(tokens) / (kept + len(new)))
        if math.log(rng.random() or 1e-300) < ratio:
            sample.accepted += 1
            sample.moved += new != tokens[kept:]
            current = (tokens[:kept] + new, base[:kept] + new_base, drawn[:kept] + new_drawn)
    return sample


def _continued(model: Any, prefix: list[int], room: int) -> tuple[list[int], list[float], list[float]]:
    """Tokens, their log p, and their log-probability under the proposal p^alpha, normalised token by token."""
    ids = torch.tensor([prefix])
    with torch.no_grad():
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=room,
            do_sample=True,
            temperature=1 / ALPHA,
            top_k=0,
            top_p=1.0,
            return_dict_in_generate=True,
            output_logits=True,
        )
    tokens = made.sequences[0, len(prefix) :].tolist()
    logits = torch.cat(made.logits).double()
    base, proposal = (torch.log_softmax(scale * logits, -1)[range(len(tokens)), tokens] for scale in (1.0, ALPHA))
    return tokens, base.tolist(), proposal.tolist()


def benchmark(source: ModelSource) -> dict[str, Any]:
    model, tokenizer = load_model(source, "cpu", "float32").eval(), load_tokenizer(source)
    texts = [prompt.text for prompt in load_source("embedded", "test", PROMPTS).prompts().prompts]
    prompts = [encode(tokenizer, text, "plain") for text in texts]
    found: dict[str, Any] = {"alpha": ALPHA, "steps": STEPS, "longest": ROOM}
    rng = random.Random(SEED)
    torch.manual_seed(SEED)
    plain_chain(model, prompts[0], rng)  # warms up
    start = time.perf_counter(), time.process_time()
    samples = [plain_chain(model, prompt, rng) for prompt in prompts]
    found["plain_one_chain"] = _summary(samples, start)
    longest = max(map(len, prompts)) + ROOM
    engine = make_engine(
        "transformers", model=model, location=source.location, max_length=longest, seed=SEED, tokenizer=tokenizer
    )
    sampled = LanguageModel(engine, model, tokenizer)
    for name, chunk in (("batched", None), (f"batched_chunks_of_{CHUNK}", CHUNK)):
        chain = Power(ALPHA, ROOM, STEPS, 1 / ALPHA, chunk)
        start = time.perf_counter(), time.process_time()
        keys = [(tuple(ids), Key(SEED, place, number)) for place, ids in enumerate(prompts) for number in range(CHAINS)]
        samples = run([power(ids, ROOM, key, chain) for ids, key in keys], sampled)
        found[name] = _summary(samples, start)
    engine.close()
    slow = found["plain_one_chain"]
    for name in ("batched", f"batched_chunks_of_{CHUNK}"):
        for measure in ("responses_per_second", "responses_per_cpu_second", "tokens_per_accepted"):
            found[name][f"{measure}_over_plain"] = found[name][measure] / slow[measure]
    return found


def _summary(samples: list[Sample], start: tuple[float, float]) -> dict[str, Any]:
    seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    generated = sum(sample.generated for sample in samples)
    return {
        "responses": len(samples),
        "seconds": seconds,
        "responses_per_second": len(samples) / seconds,
        "responses_per_cpu_second": len(samples) / cpu_seconds,
        "tokens_per_second": generated / seconds,
        **_tokens(samples),
        # A chain's steps are not independent: the error is over chains.
        "tokens_per_response_standard_error": statistics.stdev(s.generated for s in samples) / math.sqrt(len(samples)),
    }


def _tokens(samples: list[Sample]) -> dict[str, float | None]:
    total = {name: sum(getattr(s, name) for s in samples) for name in ("generated", "proposals", "accepted", "moved")}
    return {
        "tokens_per_response": total["generated"] / len(samples),
        "acceptance": total["accepted"] / total["proposals"],
        "tokens_per_accepted": total["generated"] / total["accepted"],
        "tokens_per_move": total["generated"] / total["moved"] if total["moved"] else None,
    }
