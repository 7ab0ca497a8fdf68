"""The search for the likeliest response, against every response there is."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sharpen.llm.tiny.mode import likeliest

VOCABULARY, EOS, LONGEST = 5, 1, 4


@pytest.fixture(params=range(4))
def model(request: pytest.FixtureRequest) -> Qwen2ForCausalLM:
    torch.manual_seed(request.param)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.4,  # far from uniform, so that prefixes matter
        bos_token_id=None,
        eos_token_id=EOS,
    )
    return Qwen2ForCausalLM(config).eval()


@torch.no_grad()
def logprob(model: Qwen2ForCausalLM, prompt: list[int], response: tuple[int, ...]) -> float:
    logprobs = model(torch.tensor([[*prompt, *response]])).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[len(prompt) - 1 + place, token]) for place, token in enumerate(response))


def test_the_mode_is_the_best_of_all_responses(model: Qwen2ForCausalLM) -> None:
    prompts = [[2, 3], [4, 0], [3, 3]]
    others = [token for token in range(VOCABULARY) if token != EOS]
    responses = [(*body, EOS) for length in range(LONGEST) for body in itertools.product(others, repeat=length)]
    for prompt, (ids, found) in zip(prompts, likeliest(model, prompts, EOS, LONGEST), strict=True):
        best = max(responses, key=lambda response: logprob(model, prompt, response))
        assert tuple(ids) == best
        assert math.isclose(found, logprob(model, prompt, best), abs_tol=1e-4)
