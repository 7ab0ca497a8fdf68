"""A step of the paper's models on ranks that do not exist: collectives, shapes, and bytes against the dry run.

Layers are alike, so four of them stand for all: bytes and collectives are a constant and a multiple of their number,
which ``test_fake_depth.py`` checks at full depth.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sharpen.llm.configs.train import LoRASettings, resolve
from sharpen.llm.distributed.memory import Memory, estimate, shape_of
from sharpen.objective import preset
from tests.llm.distributed.fake_step import Found, architecture, step

PAPERS = ["qwen2.5-3b", "llama-3.2-3b", "qwen3-4b"]
LORA, TOKENS, LAYERS = LoRASettings(), 16384, 4


def planned(model: str, config: Any, *, world: int, length: int, lora: LoRASettings | None) -> Memory:
    given = {"model": model, "objective": preset("tempered").to_dict(), "max_length": length, "device": "cuda"}
    more = {"tokens_per_microbatch": TOKENS, "gradient_checkpointing": True, "engine": "transformers"}
    run = resolve({**given, **more, "lora": None if lora is None else lora.model_dump()})
    sizes: dict[str, Any] = {"processes": world, "device": "cuda", "dtype": "bfloat16", "divided": True}
    return estimate(run, shape_of(config, lora), **sizes)


def assert_promised(found: Found, memory: Memory) -> None:
    """AdamW's step to 0.5 %; the backward pass takes at most 5 % more than promised, and at most 10 % less."""
    held = memory.parameters + memory.gradients + memory.optimizer
    assert found.step == pytest.approx(held + memory.temporaries, rel=0.005)
    assert 0.9 <= found.backward / (held + memory.backward) <= 1.05


@pytest.mark.parametrize(("world", "length", "lora"), [(8, 2048, None), (4, 8192, LORA)], ids=["full", "lora"])
@pytest.mark.parametrize("model", PAPERS)
def test_a_step_takes_the_bytes_that_the_dry_run_promises(
    model: str, world: int, length: int, lora: LoRASettings | None
) -> None:
    config = architecture(model, LAYERS)
    found = step(config, world=world, rank=1, length=length, tokens=TOKENS, lora=lora)
    assert_promised(found, planned(model, config, world=world, length=length, lora=lora))
    assert {dtype for _, dtype in found.gradients.values()} == {torch.float32}
    if lora is not None:
        assert all(".lora_" in name for name in found.gradients)


@pytest.mark.parametrize("world", [2, 4, 8, 64])
def test_every_rank_sends_the_same_in_the_same_order(world: int) -> None:
    config = architecture("qwen2.5-3b", 2)
    first, last = (step(config, world=world, rank=rank, length=512, tokens=1024) for rank in (0, world - 1))
    assert first.sent == last.sent
    shape = shape_of(config)
    of = {name: [size for kind, size in first.sent if kind == name] for name in {kind for kind, _ in first.sent}}
    pad = 4 * world * 2 * 1024  # a weight's first axis is divided in whole rows: the last rank's may be filled up
    # Weights are gathered in bfloat16, for the forward and again for the backward pass.
    gathered = sorted(of["_allgather_base_"])
    assert gathered == pytest.approx([2 * shape.layer] * 4 + [2 * shape.outside] * 2, abs=pad)
    # Gradients are summed in float32, each once.
    assert sorted(of["_reduce_scatter_base_"]) == pytest.approx([4 * shape.layer] * 2 + [4 * shape.outside], abs=pad)
    kinds = [kind for kind, _ in first.sent[-first.clipping :]]
    assert kinds == ["all_reduce", "wait_tensor"]  # all gradients' norms at once


def test_one_process_sends_nothing() -> None:
    found = step(architecture("llama-3.2-3b", 2), world=1, rank=0, length=512, tokens=1024)
    assert found.sent == []
