"""The sampling step by itself, and what only the transformers engine has: micro-batches, compaction, caches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sharpen.llm.models import decoding
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout import Rollout, Sampling, factory, make_engine, sampler, transformers_engine
from sharpen.llm.rollout.requests import eos_token_ids, row_seed, row_uniforms
from sharpen.llm.rollout.sampler import sample, sampling_logprobs
from sharpen.llm.rollout.stops import Stops
from sharpen.llm.rollout.transformers_engine import TransformersEngine
from sharpen.objective import InputError

EOS = 1
PROMPTS = [[3, 4, 2, 6, 5, 0, 3, 2, 4], [5], [2, 2, 6], [7, 8, 9, 3]]
SHAPE = {
    "vocab_size": 11,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": EOS,
}


def build(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "gpt2":  # learned positions, which show a wrong position at once
        return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3))
    if kind == "mistral":  # a sliding window, shorter than the prompts
        return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=4))
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE))


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build("qwen2")


def engine_for(model: PreTrainedModel, max_rows: int = 256, **options: Any) -> TransformersEngine:
    return TransformersEngine(model, max_length=40, eos_ids=(EOS,), max_rows=max_rows, **options)


def letters() -> PreTrainedTokenizerFast:
    """A token for each of ten letters; EOS has no text."""
    vocabulary = {token: place for place, token in enumerate(["a", "<end>", *"bcdefghij"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "mistral"])
def test_left_padding_and_the_cache_are_right_for_every_kind_of_attention(kind: str) -> None:
    model = build(kind)
    rollout = engine_for(model).generate(PROMPTS, 5, Sampling(12), seed=0)
    expected = token_logprobs(model.eval(), rollout.prompt_ids, rollout.response_ids, micro_batch_tokens=1)
    for row, logprobs in enumerate(rollout.logprobs):
        np.testing.assert_allclose(logprobs, expected.logprobs_BT[row, : len(logprobs)], atol=1e-4)


def test_a_model_whose_positions_grew_while_it_sampled_can_be_trained() -> None:
    """What a forward pass keeps in the model, such as frequencies for longer texts, must not stop a later gradient."""
    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    shape: dict[str, Any] = {**SHAPE, "max_position_embeddings": 8, "rope_parameters": rope}
    model = Qwen2ForCausalLM(Qwen2Config(**shape))
    before = model.model.rotary_emb.inv_freq.clone()
    rollout = engine_for(model).generate(PROMPTS, 2, Sampling(20, ignore_eos=True), seed=0)
    assert not torch.equal(model.model.rotary_emb.inv_freq, before)
    tokens_BL = torch.tensor([[*rollout.prompt_ids[0], *rollout.response_ids[0]]])
    model(input_ids=tokens_BL, labels=tokens_BL).loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


def assert_same(found: Rollout, expected: Rollout) -> None:
    assert (found.response_ids, found.finished) == (expected.response_ids, expected.finished)
    for left, right in ((found.logprobs, expected.logprobs), (found.model_logprobs, expected.model_logprobs)):
        assert left is not None
        assert right is not None
        for mine, other in zip(left, right, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-4)


@pytest.mark.parametrize("refill", [False, True])
@pytest.mark.parametrize("max_rows", [1, 3, 7])
def test_micro_batches_change_nothing(model: PreTrainedModel, max_rows: int, refill: bool) -> None:
    expected = engine_for(model).generate(PROMPTS, 5, Sampling(12), seed=0)
    assert_same(engine_for(model, max_rows, refill=refill).generate(PROMPTS, 5, Sampling(12), seed=0), expected)


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "mistral"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(20),
        Sampling(20, stop=("d", "gh", "fb")),
        Sampling(20, temperature=0.7, top_p=0.8, stop=("bb",)),
        Sampling(9, ignore_eos=True, stop=("d",)),
        Sampling(20, temperature=0),
    ],
    ids=str,
)
def test_continuous_batching_gives_each_row_what_it_gets_alone(kind: str, sampling: Sampling) -> None:
    model, tokenizer = build(kind), letters()
    prompts = [*PROMPTS, [9, 9, 2, 3, 3, 3, 2, 4, 8, 7, 6, 5], PROMPTS[1], PROMPTS[0], [4]]
    limits, samples = [20, 3, 14, 1, 20, 17, 6, 20], 5
    engine = engine_for(model, max_rows=6, tokenizer=tokenizer, refill=True)
    found = engine.generate(prompts, samples, sampling, seed=4, limits=limits)
    rows = [(p, s) for p in range(len(prompts)) for s in range(samples)]
    alone = engine_for(model, tokenizer=tokenizer, refill=False)
    each = [
        alone.generate([prompts[p]], 1, sampling, 0, limits=[limits[p]], row_seeds=[row_seed(4, p, s)]) for p, s in rows
    ]
    joined = {name: [getattr(one, name)[0] for one in each] for name in vars(found)}
    assert_same(found, Rollout(**joined))
    stops = Stops(tokenizer, sampling.stop)
    for (p, _), ids, finished in zip(rows, found.response_ids, found.finished, strict=True):
        limit = min(limits[p], sampling.max_new_tokens)
        ends = [] if sampling.ignore_eos else [ids.index(EOS) + 1] if EOS in ids else []
        stopped = None if sampling.ignore_eos else stops.length(ids)
        first = min([*ends, *([stopped] if stopped else [])], default=None)
        assert finished == (first is not None)
        assert len(ids) == (first or limit)


@pytest.mark.parametrize("max_rows", [8, 16])
def test_ended_rows_give_their_place_to_waiting_ones_and_a_prompt_is_read_once(
    model: PreTrainedModel, max_rows: int
) -> None:
    shapes: list[tuple[int, int]] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    prompts = [[3 + place % 7, 2, 4] for place in range(9)]  # two of them come twice
    rollout = engine_for(model, max_rows, refill=True).generate(prompts, 12, Sampling(30), seed=0)
    hook.remove()
    steps = [rows for rows, columns in shapes if columns == 1]
    assert max(steps) <= max_rows
    assert sum(rows for rows, columns in shapes if columns == 3) == 7
    tokens = sum(len(ids) - 1 for ids in rollout.response_ids)  # the first comes with the prompt
    full = [place for place, rows in enumerate(steps) if rows == max_rows]
    assert len(steps[: full[-1]]) == full[-1]  # no narrow pass until the queue is empty
    assert sum(steps) <= tokens / (1 - transformers_engine.COMPACT_AT) + max_rows


def test_a_refill_waits_for_the_batch_where_caches_are_more_than_keys_and_values(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = engine_for(model).generate(PROMPTS, 5, Sampling(12), seed=0)
    monkeypatch.setattr(decoding.DecodingBatch, "joinable", False)
    monkeypatch.delattr(decoding.DecodingBatch, "join")
    assert_same(engine_for(model, 6, refill=True).generate(PROMPTS, 5, Sampling(12), seed=0), expected)


def test_rows_that_ended_stay_within_the_positions_that_the_model_has() -> None:
    """A row with a longer prompt, ended at its limit, waits in the batch while others go on."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=11, n_embd=32, n_layer=1, n_head=2, n_positions=12)
    engine = TransformersEngine(GPT2LMHeadModel(config), max_length=12, eos_ids=())
    rollout = engine.generate([[2] * 11, *([3] for _ in range(20))], 1, Sampling(11), seed=0)
    assert [len(ids) for ids in rollout.response_ids] == [1] + [11] * 20


@pytest.mark.parametrize("room", [1, 7, 64])
@pytest.mark.parametrize("refill", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "mistral"])
def test_room_in_the_cache_changes_no_bit(kind: str, refill: bool, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a cache that copies everything with each token; rows end, leave, and others join meanwhile."""
    model, max_rows = build(kind), 5 if refill else 256
    expected = engine_for(model, max_rows, refill=refill).generate(PROMPTS, 8, Sampling(31), seed=0)
    in_place: list[bool] = []
    update = decoding.RoomyLayer.update

    def counted(layer: decoding.RoomyLayer, *arrays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        before = layer._rooms
        found = update(layer, *arrays)
        in_place.append(before is not None and layer._rooms is before)
        return found

    monkeypatch.setattr(decoding.RoomyLayer, "update", counted)
    monkeypatch.setattr(decoding, "ROOMY_FROM", 0)
    monkeypatch.setattr(decoding, "ROOM", room)
    assert engine_for(model, max_rows, refill=refill).generate(PROMPTS, 8, Sampling(31), seed=0) == expected
    assert len(set(in_place)) == (0 if kind == "mistral" else 2)  # a layer with a window has none


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_compaction_changes_nothing(model: PreTrainedModel, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine_for(model).generate(PROMPTS, 8, Sampling(20), seed=0)
    monkeypatch.setattr(transformers_engine, "COMPACT_AT", share)
    found = engine_for(model).generate(PROMPTS, 8, Sampling(20), seed=0)
    assert (found.response_ids, found.finished) == (expected.response_ids, expected.finished)


def test_ended_rows_leave_the_batch(model: PreTrainedModel) -> None:
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    rollout = engine_for(model).generate(PROMPTS, 50, Sampling(20), seed=0)
    hook.remove()
    lengths = np.array([len(response) for response in rollout.response_ids])
    assert sizes[0] == len(PROMPTS)  # a prompt is read once, not once for each sample
    for step, rows in enumerate(sizes[1:], start=1):
        alive = int((lengths > step).sum())
        assert alive <= rows < max(alive / (1 - transformers_engine.COMPACT_AT), alive + 1)


def test_the_engine_follows_its_model() -> None:
    model = build("qwen2")
    engine = engine_for(model)
    engine.generate(PROMPTS, 2, Sampling(6), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    engine.push_weights(model)
    rollout = engine.generate(PROMPTS, 2, Sampling(6), seed=0)
    expected = token_logprobs(model.eval(), rollout.prompt_ids, rollout.response_ids, micro_batch_tokens=64)
    np.testing.assert_allclose(
        [value for row in rollout.logprobs for value in row], expected.logprobs_BT[expected.mask_BT], atol=1e-4
    )
    engine.close()


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-20, 20), min_size=1, max_size=9),
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0.05, 4),
)
def test_the_token_is_where_the_cumulative_distribution_passes_the_number(
    logits: list[float], uniform: float, temperature: float
) -> None:
    token, logprob = sample(
        torch.tensor([logits], dtype=torch.float64), torch.tensor([uniform], dtype=torch.float64), temperature, 1.0
    )
    weights = np.exp((np.array(logits) - max(logits)) / temperature)
    cdf = np.cumsum(weights / weights.sum())
    chosen = int(token)
    assert uniform <= cdf[chosen] + 1e-12
    assert chosen == 0 or cdf[chosen - 1] <= uniform + 1e-12
    assert float(logprob) == pytest.approx(math.log(weights[chosen] / weights.sum()), abs=1e-9)


@pytest.mark.parametrize("width", [sampler.WIDE, sampler.WIDE + 77])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_in_a_wide_vocabulary_each_token_has_its_own_interval_of_numbers(width: int, top_p: float) -> None:
    """The middle and the edges of tokens' intervals, by the float64 sums of NumPy; rare tokens among them."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3, width)) * np.array([[0.1], [3.0], [8.0]])
    logits[:, :600] = -np.inf  # whole blocks without mass at both ends
    logits[:, -300:] = -np.inf
    given = torch.from_numpy(logits.astype(np.float32))
    probability = sampling_logprobs(given, 1.0, top_p).double().exp().numpy()
    cdf = probability.cumsum(axis=1) / probability.sum(axis=1, keepdims=True)
    for row in range(3):
        share = probability[row] / probability[row].sum()
        likely = np.flatnonzero(share > 1e-5)
        tokens = np.concatenate([generator.choice(likely, 200), likely[np.argsort(-share[likely])[:20]]])
        # As far from both ends as a float32 sum may move them: 1e-6 of the mass before and after.
        for place, slack in ((0.5, 0.0), (0.0, 2e-6), (1.0, -2e-6)):
            numbers = np.clip(cdf[row, tokens] - share[tokens] * (1 - place) + slack, 0, np.nextafter(1.0, 0.0))
            found, logprobs = sample(given[row].expand(len(tokens), -1), torch.from_numpy(numbers), 1.0, top_p)
            np.testing.assert_array_equal(found.numpy(), tokens)
            np.testing.assert_allclose(logprobs.exp().numpy(), probability[row, tokens], rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0)])
def test_a_few_rows_at_a_time_give_the_tokens_of_all_at_once(
    dtype: torch.dtype, temperature: float, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    logits_RV, uniform_R = (3 * torch.randn(7, 9000)).to(dtype), torch.rand(7, dtype=torch.float64)
    monkeypatch.setattr(sampler, "PART", 10**9)
    expected = sample(logits_RV, uniform_R, temperature, top_p)
    monkeypatch.setattr(sampler, "PART", 2 * 9000)
    found = sample(logits_RV, uniform_R, temperature, top_p)
    assert torch.equal(found[0], expected[0])
    assert torch.allclose(found[1], expected[1], rtol=1e-6, atol=0)


def test_in_a_wide_vocabulary_frequencies_are_the_models() -> None:
    generator = np.random.default_rng(1)
    logits = torch.from_numpy((generator.normal(size=sampler.WIDE) * 3).astype(np.float32))
    draws = 20000
    numbers = torch.from_numpy(generator.random(draws))
    tokens = torch.cat([sample(logits.expand(len(part), -1), part, 1.0, 1.0)[0] for part in numbers.split(500)])
    expected = np.exp(logits.double().numpy())
    expected *= draws / expected.sum()
    counts = np.bincount(tokens.numpy(), minlength=len(expected))
    common = expected >= 5
    observed = [*counts[common], counts[~common].sum()]
    assert chisquare(observed, [*expected[common], expected[~common].sum()]).pvalue > 1e-3


@pytest.mark.parametrize("width", [6, sampler.WIDE + 6])
def test_logits_that_are_no_distribution_say_so(width: int) -> None:
    logits = torch.zeros(2, width)
    logits[1, 3] = torch.nan
    token, logprob = sample(logits, torch.tensor([0.5, 0.5], dtype=torch.float64), 1.0, 1.0)
    assert math.isfinite(logprob[0])
    assert math.isnan(logprob[1])
    assert bool((token < width).all())


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("spare", [0, 2 * sampler.WIDE])
def test_a_token_without_mass_is_never_sampled(uniform: float, spare: int) -> None:
    logits = torch.tensor([[-torch.inf, -torch.inf, 1.0, -torch.inf, 2.0, -torch.inf] + spare * [-torch.inf]])
    token, _ = sample(logits, torch.tensor([uniform], dtype=torch.float64), 1.0, 1.0)
    assert int(token) == (2 if uniform == 0 else 4)


@settings(max_examples=60, deadline=None)
@given(logits=st.lists(st.floats(-9, 9), min_size=2, max_size=9, unique=True), top_p=st.floats(0.01, 1))
def test_the_nucleus_is_the_fewest_likeliest_tokens_with_enough_mass(logits: list[float], top_p: float) -> None:
    probability = np.exp(logits) / np.exp(logits).sum()
    kept = sampling_logprobs(torch.tensor([logits], dtype=torch.float64), 1.0, top_p)[0].exp().numpy() > 0
    assert probability[kept].sum() >= top_p - 1e-9
    assert probability[kept].sum() - probability[kept].min() < top_p + 1e-9
    assert kept.all() or probability[kept].min() >= probability[~kept].max()


def test_equal_logits_do_not_enlarge_the_nucleus() -> None:
    assert int((sampling_logprobs(torch.zeros(1, 4), 1.0, 0.5)[0] > -torch.inf).sum()) == 2
    assert int((sampling_logprobs(torch.zeros(1, 4), 1.0, 1e-9)[0] > -torch.inf).sum()) == 1


def test_rows_have_their_own_numbers_and_a_longer_request_extends_a_shorter() -> None:
    seeds = {row_seed(seed, p, s) for seed in range(5) for p in range(9) for s in range(9)}
    assert len(seeds) == 5 * 9 * 9
    assert max(seeds) < 2**63
    np.testing.assert_array_equal(row_uniforms(7, 10)[:4], row_uniforms(7, 4))


def test_every_end_of_sequence_token_counts() -> None:
    model = build("qwen2")
    assert eos_token_ids(model) == (EOS,)

    class Tokenizer:
        eos_token_id = 4

    assert eos_token_ids(model, Tokenizer()) == (EOS, 4)
    model.generation_config = GenerationConfig(eos_token_id=[9, 2])
    assert eos_token_ids(model, Tokenizer()) == (2, 4, 9)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 4, "temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 4, "temperature": 0.001}, "temperature"),
        ({"max_new_tokens": 4, "temperature": math.nan}, "temperature"),
        ({"max_new_tokens": 4, "top_p": 0.0}, "top_p"),
        ({"max_new_tokens": 4, "top_p": 1.5}, "top_p"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        Sampling(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("installed", "parameters", "device", "expected"),
    [
        (True, 135 * 10**6, "cpu", "vllm"),
        (True, factory.VLLM_FROM, "cpu", "vllm"),
        (True, factory.VLLM_FROM - 1, "cpu", "transformers"),
        (True, 1000, "meta", "vllm"),  # any device but a CPU
        (False, 135 * 10**6, "cpu", "transformers"),
    ],
)
def test_auto_is_the_quicker_engine_of_those_installed(
    installed: bool, parameters: int, device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "vllm_available", lambda: installed)
    model = build("qwen2")
    torch.nn.Module.to(model, device)
    monkeypatch.setattr(model, "num_parameters", lambda: parameters)
    assert factory.auto_engine(model) == expected


def test_without_vllm_auto_is_transformers_and_vllm_says_what_to_install(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "vllm_available", lambda: False)
    assert make_engine("auto", model=model, location="nowhere", max_length=40, seed=0).name == "transformers"
    with pytest.raises(InputError, match=r"'\.\[vllm\]'"):
        make_engine("vllm", model=model, location="nowhere", max_length=40, seed=0)
    with pytest.raises(InputError, match="auto, vllm, transformers"):
        make_engine("sglang", model=model, location="nowhere", max_length=40, seed=0)
