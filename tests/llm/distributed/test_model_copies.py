"""Copies of a model compute what the model computes: reference and engine equal the policy at step 0, exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed import world as processes
from sharpen.llm.distributed.sharding import shard
from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.registry import REGISTRY, ModelSource, load_model
from sharpen.llm.models.registry import resolve as find
from sharpen.llm.models.weights import copy_of, with_adapters
from sharpen.llm.rollout import Rollout
from sharpen.llm.rollout.transformers_engine import TransformersEngine
from sharpen.llm.training.reference import Copy, make_reference
from sharpen.llm.training.setup import Setup, prepare
from sharpen.objective import PRESETS

TINY = {
    "vocab_size": 23,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.3,  # logits a few nats apart, so that a rounded frequency shows
}
FROZEN = PRESETS["tilted"].model_copy(update={"reference": "frozen"})
DTYPES = [torch.float32, torch.bfloat16]
EMBEDDED = "embedded"


@pytest.fixture(scope="module", params=[EMBEDDED, *REGISTRY])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """Each architecture of the registry with its own rotary embedding, small and random, in a folder."""
    if request.param == EMBEDDED:
        return find(EMBEDDED)
    fields = dict(REGISTRY[request.param].architecture)
    config = AutoConfig.for_model(str(fields.pop("model_type")), **{**fields, **TINY})
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return ModelSource(request.param, str(folder))


@pytest.fixture(scope="module")
def group() -> Iterator[None]:
    processes.connect(World(), "cpu")
    yield
    processes.disconnect()


def rollout(vocabulary: int) -> Rollout:
    rng = np.random.default_rng(0)
    # Far positions: a frequency that is rounded turns them most.
    lengths = [(3, 40), (200, 300), (60, 90)]
    prompts, responses = ([rng.integers(0, vocabulary, pair[i]).tolist() for pair in lengths] for i in (0, 1))
    return Rollout(prompts, responses, [[0.0] * len(row) for row in responses], [True] * len(responses))


def scores(model: Any, samples: Rollout) -> torch.Tensor:
    return token_logprobs(model, samples.prompt_ids, samples.response_ids, micro_batch_tokens=600).logprobs_BT


def buffers(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.named_buffers())


def assert_same_buffers(one: Any, other: Any) -> None:
    first, second = buffers(one), buffers(other)
    assert first.keys() == second.keys()
    assert first  # the rotary frequencies at least
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
def test_the_reference_is_the_policy_at_step_0(
    source: ModelSource, dtype: torch.dtype, adapted: bool, sharded: bool, group: None
) -> None:
    """As a run builds them: a float32 master copy whose passes are in ``dtype`` where FSDP2 divides it."""
    policy: Any = load_model(source, "cpu", "float32" if sharded else str(dtype).removeprefix("torch."))
    policy = with_adapters(policy, 16, 32.0) if adapted else policy
    reference = make_reference(FROZEN, policy, dtype=dtype if sharded else None)
    if sharded:
        shard(policy, compute=dtype)
        if isinstance(reference, Copy):
            shard(reference.copy_of_policy, compute=dtype)
    samples = rollout(policy.config.vocab_size)
    assert torch.equal(reference.logprobs(samples, micro_batch_tokens=600), scores(policy, samples))


def test_a_copy_in_bfloat16_is_what_from_pretrained_loads(source: ModelSource) -> None:
    master, loaded = load_model(source, "cpu", "float32"), load_model(source, "cpu", "bfloat16")
    clone = copy_of(master, dtype=torch.bfloat16)
    assert_same_buffers(clone, loaded)
    assert_same_buffers(clone, master)
    assert clone.dtype == clone.config.dtype == torch.bfloat16
    expected = dict(loaded.named_parameters())
    assert {name for name, _ in clone.named_parameters()} == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in clone.named_parameters())
    samples = rollout(master.config.vocab_size)
    assert torch.equal(scores(clone, samples), scores(loaded, samples))
    # The test can see the fault: rounding every buffer gives other numbers.
    rounded = copy.deepcopy(master).to(torch.bfloat16)  # type: ignore[arg-type]
    assert not torch.equal(scores(rounded, samples), scores(loaded, samples))


def test_a_copy_shares_nothing_but_keeps_ties(source: ModelSource) -> None:
    master = load_model(source, "cpu", "float32")
    clone = copy_of(master)
    held = {tensor.data_ptr() for tensor in (*master.parameters(), *master.buffers())}
    assert not held & {tensor.data_ptr() for tensor in (*clone.parameters(), *clone.buffers())}
    tied = master.config.tie_word_embeddings
    assert (clone.get_output_embeddings().weight is clone.get_input_embeddings().weight) == tied
    assert [p.requires_grad for p in clone.parameters()] == [p.requires_grad for p in master.parameters()]


def test_a_refreshed_reference_takes_the_buffers_too() -> None:
    policy: Any = load_model(find(EMBEDDED), "cpu", "float32")
    reference = make_reference(PRESETS["tilted"].model_copy(update={"reference": "refresh:2"}), policy)
    assert isinstance(reference, Copy)
    with torch.no_grad():
        for tensor in (*policy.parameters(), *policy.buffers()):
            tensor += 0.01
    reference.after_update(1)
    assert not torch.equal(next(reference.copy_of_policy.parameters()), next(policy.parameters()))
    reference.after_update(2)
    assert_same_buffers(reference.copy_of_policy, policy)
    assert all(map(torch.equal, reference.copy_of_policy.parameters(), policy.parameters()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["full", "lora"])
def test_a_run_starts_with_engine_reference_and_policy_alike(
    dtype: str, lora: dict[str, int] | None, group: None
) -> None:
    """What ``sharpen llm train`` prepares: log pi - log p is 0, and the engine's model is from_pretrained's."""
    objective = FROZEN.to_dict()
    run = resolve({"objective": objective, "dtype": dtype, "lora": lora, "engine": "transformers", "device": "cpu"})
    setup: Setup = prepare(run, find(EMBEDDED), World())
    loaded = load_model(find(EMBEDDED), "cpu", dtype)
    samples = rollout(loaded.config.vocab_size)
    policy = scores(setup.model, samples)
    assert torch.equal(setup.reference.logprobs(samples, micro_batch_tokens=600), policy)
    assert torch.equal(scores(loaded, samples), policy)
    engine = setup.engine.inner  # type: ignore[attr-defined]
    assert isinstance(engine, TransformersEngine)
    setup.engine.push_weights(setup.model)
    sampler: Any = engine._model
    assert sampler.dtype == getattr(torch, dtype)
    assert_same_buffers(sampler, loaded)
    assert torch.equal(scores(sampler, samples), policy)
