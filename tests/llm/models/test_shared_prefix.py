"""Prompts computed once for all their samples against a pass for each row: values, entropies and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sharpen.llm.models import logprobs, shared_prefix
from sharpen.llm.models.logprobs import Batch, batches_for, response_logprobs, token_logprobs, unbatch
from sharpen.llm.models.shared_prefix import Line, SharedBatch, lines_of, prefix_is_shareable, saves
from sharpen.llm.models.weights import with_adapters

VOCABULARY = 23
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # logits a few nats apart, so that mistakes show
}
EAGER: dict[str, Any] = SHAPE | {"attn_implementation": "eager"}
Rows = tuple[list[list[int]], list[list[int]]]


def build(kind: str, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    models = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
        "eager": lambda: LlamaForCausalLM(LlamaConfig(**EAGER)),
        "qwen2-tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
        # Caps its logits, and looks back at most eight tokens in every other layer.
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0, sliding_window=8)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)),
        "adapters": lambda: with_adapters(LlamaForCausalLM(LlamaConfig(**SHAPE)), 2, 4.0),
    }
    model: Any = models[kind]().to(dtype)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero at the start: an adapter that does nothing would hide a mistake
            torch.nn.init.normal_(weight, std=0.3)
    return exact_norms(model).eval() if dtype == torch.float64 and kind != "gemma2" else model.eval()


def exact_norms(model: Any) -> Any:
    """Put torch's norms for those of transformers, which work in float32 also in a float64 model."""
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            if type(norm).__name__.endswith("RMSNorm"):
                own = torch.nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon, dtype=torch.float64)
                own.weight = norm.weight
                setattr(module, name, own)
    return model


def groups(sizes: list[tuple[int, list[int]]], seed: int = 0, tokens: int = VOCABULARY) -> Rows:
    """Return rows of prompts with responses of given lengths; few ``tokens`` make equal beginnings."""
    rng = np.random.default_rng(seed)
    prompts: list[list[int]] = []
    responses: list[list[int]] = []
    for prompt_length, lengths in sizes:
        prompt = rng.integers(0, VOCABULARY, prompt_length).tolist()
        for length in lengths:
            prompts.append(prompt)
            responses.append(rng.integers(0, tokens, length).tolist())
    return prompts, responses


def measured(model: Any, rows: Rows, share: Any, budget: int = 64) -> tuple[torch.Tensor, torch.Tensor, list[Any], Any]:
    """Return log-probabilities, entropies, gradients of a weighted sum, and the batches."""
    model.zero_grad()
    batches = batches_for(model, *rows, micro_batch_tokens=budget, share_prompts=share)
    found = [response_logprobs(model, batch, with_entropy=True) for batch in batches]
    values_RT = unbatch(batches, [part.logprobs_BT for part in found])
    entropy_RT = unbatch(batches, [part.entropy_BT for part in found if part.entropy_BT is not None])
    weights = torch.linspace(-1, 2, values_RT.numel(), dtype=values_RT.dtype).view(values_RT.shape)
    (weights * values_RT).sum().backward()
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    return values_RT.detach(), entropy_RT, gradients, batches


SIZES: list[tuple[int, list[int]]] = [(5, [3, 4, 1, 6]), (9, [2, 2]), (3, [5]), (1, [1, 7, 3]), (6, [0, 4, 0])]


@pytest.mark.parametrize("kind", ["llama", "eager", "qwen2-tied", "qwen3", "adapters"])
@pytest.mark.parametrize("budget", [16, 40, 1000])
@pytest.mark.parametrize("tokens", [2, VOCABULARY])
def test_values_and_gradients_are_those_of_a_row_for_each(kind: str, budget: int, tokens: int) -> None:
    model, rows = build(kind), groups(SIZES, tokens=tokens)
    values, entropies, gradients, batches = measured(model, rows, "always", budget)
    expected = measured(model, rows, "never", budget)
    assert all(isinstance(batch, SharedBatch) for batch in batches)
    assert all(isinstance(batch, Batch) for batch in expected[3])
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(rows[0])))
    rounding = 1e-6 if kind == "eager" else 1e-10  # transformers' own attention has a softmax in float32
    torch.testing.assert_close(values, expected[0], rtol=0, atol=rounding)
    torch.testing.assert_close(entropies, expected[1], rtol=0, atol=rounding)
    assert len(gradients) == len(expected[2]) > 0
    for got, wanted in zip(gradients, expected[2], strict=True):
        torch.testing.assert_close(got, wanted, rtol=rounding, atol=rounding * max(1.0, wanted.abs().max().item()))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.integers(0, 5), min_size=1, max_size=4)), min_size=1, max_size=4
    ),
    seed=st.integers(0, 99),
    budget=st.integers(1, 60),
    tokens=st.integers(1, 4),
)
def test_any_lengths(sizes: list[tuple[int, list[int]]], seed: int, budget: int, tokens: int) -> None:
    model, rows = LLAMA, groups(sizes, seed, tokens)
    found = token_logprobs(model, *rows, micro_batch_tokens=budget, with_entropy=True, share_prompts="always")
    expected = token_logprobs(model, *rows, micro_batch_tokens=budget, with_entropy=True, share_prompts="never")
    assert torch.equal(found.mask_BT, expected.mask_BT)
    torch.testing.assert_close(found.logprobs_BT, expected.logprobs_BT, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.entropy_BT, expected.entropy_BT, rtol=0, atol=1e-10)
    for batch in batches_for(model, *rows, micro_batch_tokens=budget, share_prompts="always"):
        assert isinstance(batch, SharedBatch)
        one_response = len(batch.rows) == 1
        assert batch.tokens_BL.numel() <= budget or one_response or len(batch.tokens_BL) == 1
        if batch.tokens_BL.numel() > budget and not one_response:  # a line of several is cut before it grows too long
            together = batch.tokens_BL.shape[1]
            assert together <= budget


LLAMA = build("llama")


def test_a_line_computes_each_beginning_once() -> None:
    prompt, responses = [1, 2, 3], [[4, 5, 6], [4, 5, 7], [4, 5, 6], [8], [4, 5]]
    (line,) = lines_of([prompt] * 5, responses, micro_batch_tokens=100, hidden=32)
    assert len(line.tokens) == 3 + 5  # 4, 5, 6, 7, 8
    assert sorted(line.tokens[3:]) == [4, 5, 6, 7, 8]
    for row, places in zip(line.rows, line.places, strict=True):
        assert [line.tokens[place] for place in places] == responses[row]
        assert [line.positions[place] for place in places] == list(range(3, 3 + len(places)))


def test_long_responses_share_fewer_to_a_line() -> None:
    rows = groups([(10, [200] * 8)])
    lines = lines_of(*rows, micro_batch_tokens=10**6, hidden=32)
    assert len(lines) == 8  # attention over the others' tokens would cost more than the prompt
    lengths = [210] * 8
    assert not saves(lines, lengths, micro_batch_tokens=10**4, hidden=32)
    short = groups([(40, [10] * 8)])
    lines = lines_of(*short, micro_batch_tokens=10**6, hidden=576)
    assert [len(line.rows) for line in lines] == [8]
    assert saves(lines, [50] * 8, micro_batch_tokens=10**4, hidden=576)


def test_what_saves_by_hand() -> None:
    """With 6 x 10 places for the rest of a place's work: four rows of 60 see half of it, 4 x 60 (1 + 60/120) = 360."""
    for places, saved in ((110, True), (115, False)):  # 110 (1 + 110/60) = 312, 115 (1 + 115/60) = 335 > .9 x 360
        line = Line([0] * places, [], [], [], [], [], 1)
        assert saves([line], [60] * 4, micro_batch_tokens=1000, hidden=10) == saved


def test_a_window_that_no_row_fills_changes_nothing_and_a_longer_row_stands_alone() -> None:
    model = build("mistral")
    short, long = groups([(3, [2, 4, 3])]), groups([(5, [2, 6, 3])])
    values, _, _, batches = measured(model, short, "always")
    assert isinstance(batches[0], SharedBatch)
    torch.testing.assert_close(values, measured(model, short, "never")[0], rtol=0, atol=1e-10)
    assert isinstance(batches_for(model, *long, micro_batch_tokens=64, share_prompts="always")[0], Batch)


def test_auto_leaves_small_models_and_small_savings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = groups([(12, [2] * 8)])
    assert isinstance(batches_for(LLAMA, *rows, micro_batch_tokens=64)[0], Batch)
    monkeypatch.setattr(logprobs, "SMALLEST", 0)
    assert isinstance(batches_for(LLAMA, *rows, micro_batch_tokens=64)[0], SharedBatch)
    apart = groups([(12, [2])] * 8)
    assert isinstance(batches_for(LLAMA, *apart, micro_batch_tokens=64)[0], Batch)


class Recurrent(torch.nn.Module):
    """A language model that keeps a state: what stands before a token in its line goes into it, whatever the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = build("llama", torch.float32)
        self.config = self.inside.config

    def get_input_embeddings(self) -> Any:
        return self.inside.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return self.inside(input_ids=input_ids, use_cache=False)


def test_a_model_that_cannot_gets_a_row_for_each_response(logged: list[str]) -> None:
    model, rows = Recurrent(), groups(SIZES)
    assert not prefix_is_shareable(model)
    assert any("each has its own" in message for message in logged)
    found = token_logprobs(model, *rows, micro_batch_tokens=40, share_prompts="always")
    expected = token_logprobs(model.inside, *rows, micro_batch_tokens=40, share_prompts="never")
    torch.testing.assert_close(found.logprobs_BT, expected.logprobs_BT, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_allows_for_the_rounding_of_the_dtype_and_keeps_the_mode(dtype: torch.dtype) -> None:
    model = build("qwen3", dtype).train()
    assert prefix_is_shareable(model)
    assert model.training
    assert shared_prefix.sees(model.config) == float("inf")


def test_checkpointed_activations_give_the_same_gradient() -> None:
    rows = groups(SIZES)
    model = build("llama")
    expected = measured(model, rows, "never")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    values, _, gradients, batches = measured(model, rows, "always")
    assert isinstance(batches[0], SharedBatch)
    torch.testing.assert_close(values, expected[0], rtol=0, atol=1e-10)
    for got, wanted in zip(gradients, expected[2], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10 * max(1.0, wanted.abs().max().item()))
