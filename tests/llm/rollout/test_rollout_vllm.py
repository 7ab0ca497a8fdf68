"""vLLM in the trainer's process: weight pushes that must be true, and a process that must stay as it was."""

from __future__ import annotations

import gc
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sharpen.llm.models.finite import NonFiniteError
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout import Engine, Rollout, Sampling, WeightSyncError, factory, make_engine
from sharpen.llm.rollout.loading import Loaded, load
from sharpen.objective import InputError

pytestmark = pytest.mark.vllm

MAX_LENGTH = 200
# Longer than a block of the prefix cache (128 tokens on a CPU), so that a stale cache would be read.
PROMPTS = [[7, 3, 9], [2 + i % 30 for i in range(150)]]
SHAPE = {
    "vocab_size": 40,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def build(kind: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    models = {
        "Qwen2ForCausalLM": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
        "Qwen3ForCausalLM": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)),
        "LlamaForCausalLM": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False)),
    }
    return models[kind]()


def start(model: PreTrainedModel, folder: Path, name: str = "vllm", **options: object) -> Engine:
    model.save_pretrained(folder)
    return make_engine(name, model=model, location=folder, max_length=MAX_LENGTH, seed=0, **options)  # pyright: ignore[reportArgumentType]


def perturb(model: PreTrainedModel, seed: int) -> None:
    """Move every weight, each by about as much as it is large."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.std().clamp(min=0.05) * 0.7)


def error(model: PreTrainedModel, rollout: Rollout) -> float:
    """The largest difference between the rollout's log-probabilities and those of transformers."""
    expected = token_logprobs(model.eval(), rollout.prompt_ids, rollout.response_ids, micro_batch_tokens=4096)
    found = torch.tensor([value for row in rollout.logprobs for value in row])
    return float((found - expected.logprobs_BT[expected.mask_BT]).abs().max())


@pytest.fixture(scope="module", params=["Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, PreTrainedModel]]:
    # The folder holds other weights than the model: the engine must start with the model's.
    folder = tmp_path_factory.mktemp("model")
    build(request.param, seed=5).save_pretrained(folder)
    model = build(request.param)
    engine = make_engine("vllm", model=model, location=folder, max_length=MAX_LENGTH, seed=0)
    yield engine, model
    engine.close()


def test_the_engine_starts_with_the_models_weights(pair: tuple[Engine, PreTrainedModel]) -> None:
    engine, model = pair
    assert error(model, engine.generate(PROMPTS, 4, Sampling(20), seed=0)) < 1e-4


def test_pushes_change_what_is_sampled(pair: tuple[Engine, PreTrainedModel]) -> None:
    engine, model = pair
    for push in range(3):
        before = engine.generate(PROMPTS, 4, Sampling(20), seed=0)
        perturb(model, seed=push)
        assert error(model, before) > 0.5  # the model has moved, and the engine has not
        engine.push_weights(model)
        after = engine.generate(PROMPTS, 4, Sampling(20), seed=0)
        assert error(model, after) < 1e-4
        assert after.response_ids != before.response_ids


@pytest.mark.parametrize("part", ["embed_tokens", "self_attn", "mlp", "norm", "lm_head"])
def test_every_part_of_the_model_is_pushed(pair: tuple[Engine, PreTrainedModel], part: str) -> None:
    engine, model = pair
    model.load_state_dict(build(type(model).__name__, seed=7).state_dict())
    engine.push_weights(model)
    parameters = [parameter for name, parameter in model.named_parameters() if part in name]
    if not parameters:
        assert part == "lm_head"
        assert model.get_parameter("lm_head.weight") is model.get_parameter("model.embed_tokens.weight")
        return
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(1.5)
    assert error(model, engine.generate(PROMPTS, 4, Sampling(20), seed=0)) > 1e-3
    engine.push_weights(model)
    assert error(model, engine.generate(PROMPTS, 4, Sampling(20), seed=0)) < 1e-4


def test_a_push_that_does_nothing_is_noticed(
    pair: tuple[Engine, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, model = pair
    perturb(model, seed=9)
    monkeypatch.setattr("sharpen.llm.rollout.vllm_engine.load", lambda _module, _model: Loaded(set(), 0, 0))
    with pytest.raises(WeightSyncError, match="nats on a token"):
        engine.push_weights(model)
    monkeypatch.undo()
    engine.push_weights(model)


def test_one_wrong_bit_is_noticed(pair: tuple[Engine, PreTrainedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Far too small a change for the log-probabilities of the probe; joined and padded weights add up all the same."""
    engine, model = pair

    def torn(module: Any, given: Any) -> Loaded:
        whole = module.load_weights

        def load_weights(weights: Any) -> Any:
            done = whole(weights)
            flat = next(module.parameters()).data.view(torch.int32).view(-1)
            flat[0] ^= 1
            return done

        monkeypatch.setattr(module, "load_weights", load_weights)
        return load(module, given)

    with monkeypatch.context() as changed:
        changed.setattr("sharpen.llm.rollout.vllm_engine.load", torn)
        with pytest.raises(WeightSyncError, match="add up to"):
            engine.push_weights(model)
    monkeypatch.undo()
    engine.push_weights(model)


def test_a_push_of_a_part_is_noticed(pair: tuple[Engine, PreTrainedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, model = pair
    whole = model.state_dict()
    part = {name: value for name, value in whole.items() if "layers.1.mlp.down_proj" not in name}
    monkeypatch.setattr(model, "state_dict", lambda: part)
    with pytest.raises(WeightSyncError, match=r"layers\.1\.mlp\.down_proj"):
        engine.push_weights(model)


def test_weights_that_are_not_numbers_are_noticed(pair: tuple[Engine, PreTrainedModel]) -> None:
    engine, model = pair
    weight = model.get_parameter("model.norm.weight")
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="NaN"):
        engine.push_weights(model)
    with torch.no_grad():
        weight.copy_(kept)
    engine.push_weights(model)


def test_an_engine_that_computes_with_a_copy_of_old_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM's CPU layers do on their own: the push reaches every parameter and changes nothing that is sampled."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("only the CPU build repacks its weights")

    def repack(layer: Any, remove_weight: bool) -> None:
        copied = layer.weight.detach().clone()
        layer.cpu_linear = lambda x, _weight, bias: torch.nn.functional.linear(x, copied, bias)

    repacked = patch("vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm", repack)
    monkeypatch.setattr("sharpen.llm.rollout.vllm_engine._plain_cpu_linears", lambda: repacked)
    with pytest.raises(InputError, match="nats on a token"):
        start(build("Qwen2ForCausalLM"), tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_engines_pass_their_check_and_fail_it_when_stale(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("Qwen2ForCausalLM")
    engine = start(model, tmp_path, dtype=dtype)

    def step(size: float) -> None:
        """Move the weights by this share of their size, far less than the tolerance for the engine's rounding."""
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.sign(parameter) * parameter.std() * size)

    try:
        for push in range(3):
            perturb(model, seed=push)
            engine.push_weights(model)
        engine.push_weights(model)  # nothing moved, and nothing had to
        for size in (1e-3, 1e-2):
            step(size)
            engine.push_weights(model)
        step(1e-3)
        monkeypatch.setattr("sharpen.llm.rollout.vllm_engine.load", lambda _module, _model: Loaded(set(), 0, 0))
        with pytest.raises(WeightSyncError, match="and the engine not at all"):
            engine.push_weights(model)
        perturb(model, seed=9)
        with pytest.raises(WeightSyncError, match="engine and model differ"):
            engine.push_weights(model)
    finally:
        engine.close()


def test_the_process_stays_as_it_was_and_engines_can_follow_each_other(tmp_path: Path) -> None:
    model = build("Qwen2ForCausalLM")

    def snapshot() -> list[object]:
        return [
            torch.get_num_threads(),
            torch.set_num_threads,
            os.sched_getaffinity(0),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
            random.getstate(),
            pickle.dumps(np.random.get_state()),  # noqa: NPY002
            {name: value for name, value in os.environ.items() if name.startswith(("VLLM", "OMP", "HF_", "CUDA"))},
        ]

    before = snapshot()
    rollouts = []
    thawed = gc.get_freeze_count() == 0
    gc.freeze()
    for _ in range(2):
        frozen, collect = gc.get_freeze_count(), gc.collect
        engine = start(model, tmp_path)
        assert gc.get_freeze_count() <= frozen  # the heap is the trainer's too
        assert gc.collect is collect
        rollouts.append(engine.generate(PROMPTS, 3, Sampling(12), seed=4))
        engine.close()
        engine.close()  # a second close does nothing
        assert gc.get_freeze_count() > 0
        assert not torch.distributed.is_initialized()
    if thawed:
        gc.unfreeze()
    assert rollouts[0] == rollouts[1]
    assert snapshot() == before


@pytest.mark.parametrize("name", ["auto", "vllm"])
def test_vllm_that_is_installed_and_does_not_start_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent slow rollouts would be found out hours later: who wants them says so."""

    def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("no memory\nfor the cache")

    monkeypatch.setattr("vllm.LLM", broken)
    monkeypatch.setattr(factory, "VLLM_FROM", 0)  # this small model counts as a large one
    with pytest.raises(InputError) as refused:
        start(build("Qwen2ForCausalLM"), tmp_path, name=name)
    assert str(refused.value) == (
        f"engine: got '{name}', allowed: transformers (--engine transformers, slower): vLLM is installed and does not "
        "start (RuntimeError: no memory for the cache)"
    )


def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("Qwen2ForCausalLM")
    with pytest.raises(InputError, match="float32, float16, bfloat16"):
        start(model, tmp_path, dtype="float8")
    with pytest.raises(InputError, match="max_length"):
        make_engine("vllm", model=model, location=tmp_path, max_length=2, seed=0)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with pytest.raises(InputError, match="VLLM_ENABLE_V1_MULTIPROCESSING"):
        start(model, tmp_path)
