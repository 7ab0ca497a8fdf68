"""vLLM on a CPU with seeds for each row: prompts that do not fit in one step, and prompts that rows share."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout import Engine, Rollout, Sampling, make_engine, vllm_engine
from sharpen.objective import InputError

pytestmark = pytest.mark.vllm

MAX_LENGTH, VOCABULARY, BUDGET = 160, 50, 256
SAMPLES, SAMPLING = 5, Sampling(24, ignore_eos=True)
# More tokens together than a step may have, one by one fewer; the first ones begin alike over several blocks.
_COMMON = np.random.default_rng(0).integers(2, VOCABULARY, size=100).tolist()
PROMPTS = [_COMMON + [2 + row] * (5 + row) for row in range(3)] + [[3, 4, 5], [7] * 120]


@pytest.fixture(scope="module", autouse=True)
def on_a_cpu() -> None:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("settings of the CPU build")


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def folder(model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where: Path = tmp_path_factory.mktemp("model")
    model.save_pretrained(where)
    return where


def engine_with(model: PreTrainedModel, folder: Path, patch: pytest.MonkeyPatch, **options: Any) -> Engine:
    patch.setattr(vllm_engine, "CPU_OPTIONS", vllm_engine.CPU_OPTIONS | options)
    return make_engine("vllm", model=model, location=folder, max_length=MAX_LENGTH, seed=0)


@pytest.fixture(scope="module")
def whole(model: PreTrainedModel, folder: Path) -> Rollout:
    """What is sampled where every prompt fits in one step."""
    engine = make_engine("vllm", model=model, location=folder, max_length=MAX_LENGTH, seed=0)
    try:
        return engine.generate(PROMPTS, SAMPLES, SAMPLING, seed=3)
    finally:
        engine.close()


def error(model: PreTrainedModel, rollout: Rollout) -> float:
    expected = token_logprobs(model.eval(), rollout.prompt_ids, rollout.response_ids, micro_batch_tokens=4096)
    found = torch.tensor([value for row in rollout.logprobs for value in row])
    return float((found - expected.logprobs_BT[expected.mask_BT]).abs().max())


def test_prompts_wait_for_a_step_that_has_room_and_are_sampled_as_if_it_always_had(
    model: PreTrainedModel, folder: Path, whole: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_with(model, folder, monkeypatch, max_num_batched_tokens=BUDGET)
    try:
        crowded = engine.generate(PROMPTS, SAMPLES, SAMPLING, seed=3)
        assert engine.generate(PROMPTS, SAMPLES, SAMPLING, seed=3) == crowded
    finally:
        engine.close()
    assert crowded.response_ids == whole.response_ids
    assert error(model, crowded) < 1e-4


def test_prompts_read_in_pieces_need_generators_that_go_back(
    model: PreTrainedModel, folder: Path, whole: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why pieces are forbidden; a vLLM that can set a CPU's generator back samples the same, and they may come back."""
    pieces = {"enable_chunked_prefill": True, "max_num_batched_tokens": BUDGET}
    engine = engine_with(model, folder, monkeypatch, **pieces)
    try:
        in_pieces = engine.generate(PROMPTS, SAMPLES, SAMPLING, seed=3)
    except RuntimeError as died:
        assert "Generator does not use offset" in str(died)  # noqa: PT017
    else:
        assert in_pieces.response_ids == whole.response_ids
    finally:
        engine.close()


def test_rows_that_wait_for_memory_are_sampled_as_if_there_were_enough(
    model: PreTrainedModel, folder: Path, whole: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so few blocks vLLM drops rows that it has begun, and reads their prompt and response again later."""
    engine = engine_with(model, folder, monkeypatch, num_gpu_blocks_override=16)
    try:
        dropped = engine._llm.llm_engine.engine_core.engine_core.scheduler  # type: ignore[attr-defined]
        counted: list[int] = []
        preempt = dropped._preempt_request
        monkeypatch.setattr(dropped, "_preempt_request", lambda *a, **k: (counted.append(1), preempt(*a, **k))[1])
        short = engine.generate(PROMPTS, SAMPLES, SAMPLING, seed=3)
    finally:
        engine.close()
    assert counted
    assert short.response_ids == whole.response_ids
    assert error(model, short) < 1e-4


def test_samples_of_one_prompt_share_its_whole_blocks(
    model: PreTrainedModel, folder: Path, whole: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the model's door: a block has 32 tokens, and the last token of a prompt is always read."""
    engine = engine_with(model, folder, monkeypatch)
    read: list[int] = []

    def count(_module: Any, _given: Any, hidden: Any) -> None:
        read.append(len(hidden))

    try:
        engine._llm.apply_model(lambda module: module.model.layers[0].mlp.register_forward_hook(count))  # type: ignore[attr-defined]
        engine.generate([PROMPTS[-1]], 8, Sampling(1), seed=0)
        assert sum(read) == 120 + 7 * (120 - 96)
        read.clear()
        assert engine.generate(PROMPTS, SAMPLES, SAMPLING, seed=3) == whole  # nothing is left of the call before
        assert sum(read) < 0.7 * SAMPLES * sum(len(prompt) for prompt in PROMPTS) + len(whole.prompt_ids) * 24
    finally:
        engine.close()


def test_a_start_takes_the_memory_of_its_rows_and_no_other_process(
    model: PreTrainedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing in vLLM's cache, as on a new machine, it would ask a second process about the model's class."""
    from vllm.model_executor.models import registry

    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    started: list[Any] = []
    start = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (started.append(a[0]), start(*a, **k))[1])
    monkeypatch.setattr(vllm_engine, "LEAST_CACHE", 0)
    registry._try_inspect_model_cls.cache_clear()
    engine = make_engine("vllm", model=model, location=folder, max_length=MAX_LENGTH + 1, seed=0, rows=7)
    try:
        assert engine._llm.llm_engine.vllm_config.cache_config.num_gpu_blocks == 7 * 6  # type: ignore[attr-defined]
        assert engine.generate(PROMPTS[:1], 1, SAMPLING, seed=3).response_ids
    finally:
        engine.close()
    assert list(tmp_path.rglob("*LlamaForCausalLM.json"))
    assert registry._SUBPROCESS_COMMAND not in started


def test_the_cache_is_as_large_as_its_rows_need_within_bounds() -> None:
    config = LlamaConfig(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3)
    of_a_block = 2 * 30 * 3 * 64 * 2 * 32  # keys and values, layers, heads, width, bytes, tokens
    assert vllm_engine._cache_bytes(config, 100, 96, "bfloat16") == 100 * 3 * of_a_block
    assert vllm_engine._cache_bytes(config, 100, 97, "float32") == 100 * 4 * 2 * of_a_block
    assert vllm_engine._cache_bytes(config, 1, 96, "float32") == vllm_engine.LEAST_CACHE
    assert vllm_engine._cache_bytes(config, 256, 4096, "bfloat16") == vllm_engine.MOST_CACHE


def test_adapters_are_pushed_with_the_weights_they_change(
    model: PreTrainedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)  # type: ignore[arg-type]
    adapted = get_peft_model(copy.deepcopy(model), lora).eval()
    engine = engine_with(adapted, folder, monkeypatch)  # type: ignore[arg-type]
    try:
        rollouts = []
        for _ in range(3):
            rollouts.append(engine.generate(PROMPTS, 2, SAMPLING, seed=0))
            assert error(adapted, rollouts[-1]) < 1e-3  # type: ignore[arg-type]
            with torch.no_grad():
                for name, weight in adapted.named_parameters():
                    if "lora" in name:
                        weight.add_(torch.randn_like(weight) * 0.1)
            assert error(adapted, rollouts[-1]) > 0.01  # type: ignore[arg-type]
            engine.push_weights(adapted)
        assert len({str(rollout.response_ids) for rollout in rollouts}) == 3
    finally:
        engine.close()


def test_a_folder_whose_config_asks_for_weights_that_the_model_lacks_is_refused(
    model: PreTrainedModel, folder: Path, tmp_path: Path
) -> None:
    """vLLM builds its model by the folder's config: a layer that nothing is pushed into would stay random."""
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(InputError, match=r"the push left .* of the engine's weights as they were: .*layers\.2\."):
        make_engine("vllm", model=model, location=tmp_path, max_length=MAX_LENGTH, seed=0)
