"""Response log-probabilities against a plain full log-softmax, in values and gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from sharpen.llm.models import logprobs, vocabulary
from sharpen.llm.models.logprobs import make_batches, response_logprobs, token_logprobs, unbatch

VOCABULARY = 23
SHAPE = {
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


def build(kind: str, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    torch.manual_seed(0)
    models = {
        "qwen2-tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
        # Caps its logits: the head alone would be wrong.
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0, sliding_window=8)),
    }
    return models[kind]().to(dtype).eval()


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return build("qwen2-tied")


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def rows(lengths: list[tuple[int, int]], seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(seed)
    pairs = [(rng.integers(0, VOCABULARY, p).tolist(), rng.integers(0, VOCABULARY, r).tolist()) for p, r in lengths]
    return [p for p, _ in pairs], [r for _, r in pairs]


def plain(model: torch.nn.Module, prompt: list[int], response: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle: one row, no padding, all logits; token log-probabilities and the whole log-softmax at them."""
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
    table = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
    table = table[len(prompt) - 1 : len(prompt) + len(response) - 1]
    return table[torch.arange(len(response)), torch.tensor(response, dtype=torch.long)], table


LENGTHS = [(3, 5), (1, 1), (7, 2), (2, 9), (4, 4), (1, 6)]


@pytest.mark.parametrize("kind", ["qwen2-tied", "llama", "gemma2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunk_logits", [1, 4 * VOCABULARY, 10**9])
def test_values_and_gradients_are_those_of_the_full_softmax(
    kind: str, dtype: torch.dtype, tolerance: float, chunk_logits: int
) -> None:
    model = build(kind, dtype)
    prompts, responses = rows(LENGTHS)
    weights = [torch.linspace(-1, 2, len(response), dtype=dtype) for response in responses]
    expected = [plain(model, *row)[0] for row in zip(prompts, responses, strict=True)]
    (torch.cat(weights) * torch.cat(expected)).sum().backward()
    wanted = gradients(model)
    model.zero_grad()

    for batch in make_batches(prompts, responses, micro_batch_tokens=24):
        found = response_logprobs(model, batch, chunk_logits=chunk_logits)
        for place, row in enumerate(batch.rows):
            inside = found.logprobs_BT[place][found.mask_BT[place]]
            torch.testing.assert_close(inside, expected[row], rtol=0, atol=tolerance)
            (weights[row] * inside).sum().backward(retain_graph=True)
    for name, gradient in gradients(model).items():
        scale = max(1.0, wanted[name].abs().max().item())
        if kind == "gemma2":
            scale *= 100  # its norms sum the gradients of their weights in float32 whatever the model's dtype
        torch.testing.assert_close(gradient, wanted[name], rtol=0, atol=tolerance * scale)


def test_the_softmax_of_a_bfloat16_model_is_float32() -> None:
    model = build("llama", torch.bfloat16)
    prompts, responses = rows([(4, 8)])
    found = token_logprobs(model, prompts, responses, micro_batch_tokens=64, with_entropy=True)
    assert found.logprobs_BT.dtype == torch.float32
    expected = plain(model, prompts[0], responses[0])[0]
    torch.testing.assert_close(found.logprobs_BT[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", [1, 2 * VOCABULARY, 10**6])  # logits at a time: one row, two, all
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_parts_of_the_vocabulary_statistics_are_the_whole_with_its_gradient(
    part: int, temperature: float, dtype: torch.dtype, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against torch's log_softmax and distributions, differentiated by autograd."""
    monkeypatch.setattr(vocabulary, "PART", part)
    torch.manual_seed(0)
    logits_KV = (3 * torch.randn(5, VOCABULARY)).to(dtype).requires_grad_()
    token_K, slope_K = torch.randint(VOCABULARY, (5,)), torch.randn(5, dtype=torch.float64)
    logprob_K, entropy_K = vocabulary.statistics(logits_KV, token_K, temperature, True)
    assert not entropy_K.requires_grad
    (logprob_K.double() * slope_K).sum().backward()
    precise_KV = logits_KV.detach().double().requires_grad_()
    exact_KV = torch.log_softmax(precise_KV / temperature, dim=-1)
    exact_K = exact_KV[torch.arange(5), token_K]
    (exact_K * slope_K).sum().backward()
    entropies = torch.distributions.Categorical(logits=precise_KV / temperature).entropy()
    assert torch.allclose(logprob_K.double(), exact_K, rtol=min(near, 1e-5), atol=min(near, 1e-5))
    assert torch.allclose(entropy_K.double(), entropies, rtol=min(near, 1e-5), atol=min(near, 1e-5))
    assert logits_KV.grad is not None
    assert precise_KV.grad is not None
    assert torch.allclose(logits_KV.grad.double(), precise_KV.grad, rtol=near, atol=near / 10)


def test_of_no_tokens_there_are_no_statistics() -> None:
    logprob_K, entropy_K = vocabulary.statistics(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 1.0, True)
    assert logprob_K.shape == entropy_K.shape == (0,)


def test_entropy_is_scipys(model: torch.nn.Module) -> None:
    prompts, responses = rows(LENGTHS)
    found = token_logprobs(model, prompts, responses, micro_batch_tokens=20, with_entropy=True)
    assert found.entropy_BT is not None
    for row in range(len(prompts)):
        table = plain(model, prompts[row], responses[row])[1].detach().numpy()
        np.testing.assert_allclose(
            found.entropy_BT[row][found.mask_BT[row]], scipy_entropy(np.exp(table), axis=-1), atol=1e-12
        )
    assert found.entropy_BT[~found.mask_BT].abs().sum() == 0
    assert token_logprobs(model, prompts, responses, micro_batch_tokens=20).entropy_BT is None


def test_temperature_divides_the_logits(model: torch.nn.Module) -> None:
    prompts, responses = rows([(3, 6)])
    found = token_logprobs(model, prompts, responses, micro_batch_tokens=64, temperature=0.5, with_entropy=True)
    table = plain(model, prompts[0], responses[0])[1].detach().numpy()
    tempered = np.exp(2 * table) / np.exp(2 * table).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.logprobs_BT[0], np.log(tempered[np.arange(6), responses[0]]), atol=1e-12)
    assert found.entropy_BT is not None
    np.testing.assert_allclose(found.entropy_BT[0], scipy_entropy(tempered, axis=-1), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=9),
    budget=st.integers(1, 80),
    pad_id=st.integers(0, VOCABULARY - 1),
    seed=st.integers(0, 99),
)
def test_batching_changes_nothing(
    model: torch.nn.Module, lengths: list[tuple[int, int]], budget: int, pad_id: int, seed: int
) -> None:
    prompts, responses = rows(lengths, seed)
    batches = make_batches(prompts, responses, micro_batch_tokens=budget, pad_id=pad_id)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(lengths)))
    assert all(batch.tokens_BL.numel() <= budget or len(batch.rows) == 1 for batch in batches)
    with torch.no_grad():
        found = [response_logprobs(model, batch) for batch in batches]
        expected = [plain(model, *row)[0] for row in zip(prompts, responses, strict=True)]
    logprobs_RT = unbatch(batches, [part.logprobs_BT for part in found])
    mask_RT = unbatch(batches, [part.mask_BT for part in found])
    assert mask_RT.sum(-1).tolist() == [response for _, response in lengths]
    for row, wanted in enumerate(expected):
        torch.testing.assert_close(logprobs_RT[row, : len(wanted)], wanted, rtol=0, atol=1e-10)
    assert (logprobs_RT[~mask_RT] == 0).all()


def test_no_array_of_all_logits_is_made() -> None:
    model = build("llama", torch.float32)
    prompts, responses = rows([(20, 10)] * 6)
    batch = make_batches(prompts, responses, micro_batch_tokens=10**6)[0]
    response_logprobs(model, batch)  # the trial of the head is over after this
    seen: list[int] = []
    head = model.get_submodule("lm_head")
    hook = head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.numel()))
    response_logprobs(model, batch, chunk_logits=7 * VOCABULARY).logprobs_BT.sum().backward()
    hook.remove()
    assert max(seen) == 7 * VOCABULARY
    assert sum(seen) == 2 * 60 * VOCABULARY  # forward, and again in the backward pass; no prompt position


def test_the_full_logits_are_used_where_the_head_alone_would_be_wrong(logged: list[str]) -> None:
    assert logprobs.head_is_separable(build("llama"))
    assert logprobs.head_is_separable(build("qwen2-tied"))
    assert not logprobs.head_is_separable(build("gemma2"))
    assert any("Gemma2ForCausalLM" in message for message in logged)


def test_a_wrapper_without_a_decoder_still_works(model: torch.nn.Module) -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module, self.config = module, module.config

        def forward(self, **inputs: object) -> object:
            return self.module(**inputs)

    prompts, responses = rows(LENGTHS)
    found = token_logprobs(Wrapper(model), prompts, responses, micro_batch_tokens=30)
    expected = token_logprobs(model, prompts, responses, micro_batch_tokens=30)
    torch.testing.assert_close(found.logprobs_BT, expected.logprobs_BT, rtol=0, atol=1e-12)


def test_the_model_keeps_its_mode_and_weights() -> None:
    model = build("llama").train()
    before = copy.deepcopy(model.state_dict())
    token_logprobs(model, *rows(LENGTHS), micro_batch_tokens=30)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="as many as prompts"):
        make_batches([[1]], [], micro_batch_tokens=8)
    with pytest.raises(ValueError, match="empty prompt"):
        make_batches([[1], []], [[2], [3]], micro_batch_tokens=8)
