"""The GPU benchmark: its FLOP against torch's counter, and the whole of it at a tiny shape on the CPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

FILE = Path(__file__).parents[2] / "benchmarks" / "llm_gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llm_gpu", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("length", [16, 128])
def test_the_flop_are_those_that_torch_counts(benchmark: ModuleType, length: int) -> None:
    fields = {"model_type": "qwen2", **benchmark.TINY, "tie_word_embeddings": True}
    config = AutoConfig.for_model(**fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tokens = torch.randint(0, config.vocab_size, (3, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, use_cache=False).logits.sum().backward()
    # Eager attention multiplies the masked half too, which the formula leaves out.
    masked = 3 * length * 6 * config.num_hidden_layers * config.hidden_size * length
    expected = benchmark.flop_of_update(config, model.num_parameters(), 3, length) + masked
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.03)


def test_the_smoke_run_measures() -> None:
    done = subprocess.run([sys.executable, str(FILE), "--smoke"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    update = found["update"]
    assert update["update_tokens_per_second"] == pytest.approx(16 * 64 / update["update_seconds"])
    assert update["mfu"] is None  # no peak is known of a CPU
    assert found["logprobs"]["chunked"]["seconds"] > 0
