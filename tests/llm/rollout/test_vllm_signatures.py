"""vLLM's methods and options as this program calls them: the CPU build has the GPU build's Python code."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

pytestmark = pytest.mark.vllm


def test_every_call_is_one_that_vllm_takes() -> None:
    from vllm import LLM, SamplingParams

    engine = object()
    calls = [
        (LLM.sleep, {"level": 1}),
        (LLM.wake_up, {"tags": ["weights"]}),
        (LLM.wake_up, {"tags": ["kv_cache"]}),
        (LLM.wake_up, {"tags": None}),
        (LLM.reset_prefix_cache, {}),
        (LLM.apply_model, {"func": lambda module: module}),
        (LLM.generate, {"prompts": [], "sampling_params": [], "use_tqdm": False}),
    ]
    for method, options in calls:
        inspect.signature(method).bind(engine, **options)
    own = {"max_tokens", "temperature", "top_p", "ignore_eos", "stop_token_ids", "seed", "logprobs", "detokenize"}
    assert own | {"prompt_logprobs", "skip_clone"} <= inspect.signature(SamplingParams).parameters.keys()


def test_every_option_of_the_engine_is_one_of_vllm_s() -> None:
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in fields(EngineArgs)}
    used = {"dtype", "seed", "max_model_len", "max_num_seqs", "skip_tokenizer_init", "load_format", "logprobs_mode"}
    used |= {"distributed_executor_backend", "tensor_parallel_size", "enable_sleep_mode", "gpu_memory_utilization"}
    assert used | {"kv_cache_memory_bytes", "enforce_eager", "block_size", "enable_chunked_prefill"} <= known


def test_the_tags_that_are_woken_are_those_under_which_memory_is_taken() -> None:
    from vllm.v1.worker import gpu_worker

    source = inspect.getsource(gpu_worker)
    for tag in ("weights", "kv_cache"):
        assert f'tag="{tag}"' in source


def test_bytes_of_a_cache_go_before_the_share_of_the_gpu() -> None:
    """Read in the GPU worker's own code: a cache in bytes returns before the share is looked at."""
    from vllm.v1.worker import gpu_worker

    body = inspect.getsource(gpu_worker.Worker.determine_available_memory)
    assert body.index("cache_config.kv_cache_memory_bytes") < body.index("requested_memory")
