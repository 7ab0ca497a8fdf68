"""Rollouts whose noise is drawn for a whole batch: the same call gives the same rows, of the policy's distribution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout import Engine, Rollout, Sampling, make_engine
from sharpen.llm.rollout.requests import batch_seed, noise_for

VOCABULARY, SAMPLES = 7, 400
PROMPTS = [[3, 4, 5], [6, 2]]
BATCH = Sampling(3, ignore_eos=True, noise="batch")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**sizes, **tokens, initializer_range=0.15, max_position_embeddings=256)).eval()


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def engine(
    request: pytest.FixtureRequest, model: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    made = make_engine(request.param, model=model, location=folder, max_length=32, seed=0, rows=64)
    yield made
    made.close()


def test_the_same_call_gives_the_same_rows_whatever_was_drawn_before(engine: Engine) -> None:
    first = engine.generate(PROMPTS, SAMPLES, BATCH, seed=3)
    torch.manual_seed(5)
    np.random.default_rng(5)
    engine.generate(PROMPTS, 3, replace(BATCH, noise="rows"), seed=8)
    state = torch.get_rng_state()
    assert engine.generate(PROMPTS, SAMPLES, BATCH, seed=3) == first
    assert torch.equal(torch.get_rng_state(), state)  # the program's own numbers go on where they were
    assert engine.generate(PROMPTS, SAMPLES, BATCH, seed=4).response_ids != first.response_ids


def test_rows_are_drawn_from_the_policy_and_not_all_alike(engine: Engine, model: LlamaForCausalLM) -> None:
    found: Rollout = engine.generate(PROMPTS, SAMPLES, BATCH, seed=3)
    scored = token_logprobs(model, found.prompt_ids, found.response_ids, micro_batch_tokens=10**5)
    theirs = torch.tensor([value for row in found.logprobs for value in row])
    assert float((theirs - scored.logprobs_BT[scored.mask_BT]).abs().max()) < 1e-4
    for place, prompt in enumerate(PROMPTS):
        drawn = [row[0] for row in found.response_ids[place * SAMPLES : (place + 1) * SAMPLES]]
        with torch.no_grad():
            chances = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double(), dim=-1).numpy()
        seen = np.bincount(drawn, minlength=VOCABULARY) / SAMPLES
        # five standard errors of each share
        assert np.all(np.abs(seen - chances) < 5 * np.sqrt(chances * (1 - chances) / SAMPLES) + 1e-9)


def test_a_batch_has_its_own_seed() -> None:
    assert batch_seed([1, 2, 3]) == batch_seed([1, 2, 3])
    assert len({batch_seed([1, 2, 3]), batch_seed([3, 2, 1]), batch_seed([1, 2]), batch_seed([1, 2, 4])}) == 4
    assert 0 <= batch_seed([2**63 - 1] * 5) < 2**63


def test_rows_keep_their_seeds_where_they_cost_nothing() -> None:
    assert noise_for("auto", "vllm", "cuda") == "batch"
    assert noise_for("auto", "vllm", "cpu") == noise_for("auto", "transformers", "cuda") == "rows"
    assert noise_for("rows", "vllm", "cuda") == "rows"
    assert noise_for("batch", "vllm", "cpu") == "batch"
