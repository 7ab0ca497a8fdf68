"""Rollouts from vLLM, inside the trainer's process, with the trainer's weights."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from sharpen.llm.models.finite import NonFiniteError
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout.agreement import agreement
from sharpen.llm.rollout.loading import Loaded, load
from sharpen.llm.rollout.process import contained, heap_left_alone, random_states_kept, seed_everything
from sharpen.llm.rollout.requests import batch_seed, evaluating, response_limits, seeds_of_rows
from sharpen.llm.rollout.stepping import sample_rows
from sharpen.llm.rollout.stops import stops_for
from sharpen.llm.rollout.types import Rollout, Sampling, WeightSyncError
from sharpen.objective import InputError

# Largest difference in nats of the probe tokens' log-probabilities between engine and model after a push, of all but
# the worst one (the probe is random tokens, special ones among them, which differ most). In float32 the
# two differ by rounding alone, about 1e-6 where measured. docs/rollout.md says how the others were chosen.
PUSH_TOLERANCE = {"float32": 1e-4, "float16": 0.1, "bfloat16": 1.0}
# A model that moved by more than this between two pushes, in nats on a probe token, moves an engine of any dtype.
STALE_MOVE = 1e-4
PROBE_TOKENS = 16
ROWS = 256  # at a time, where nobody says how many there is memory for
# For vLLM on a CPU; docs/rollout.md says what was found.
CPU_OPTIONS: dict[str, Any] = {
    "enforce_eager": True,
    # Rows share the whole blocks of their prompts. By default a block has 128 tokens; attention wants a multiple of 32.
    "block_size": 32,
    # A prompt that is read in pieces is sampled from after each, and what was drawn too early is drawn again: vLLM sets
    # the row's generator back, by an offset that generators have on GPUs only. So each prompt is read at once; vLLM
    # then takes as many tokens per step as the longest may have, at least.
    "enable_chunked_prefill": False,
}
# Bytes of the KV cache on a CPU, which holds all rows at full length: vLLM writes zeros to all of it at each start.
# VLLM_CPU_KVCACHE_SPACE (GiB), where set, goes before it.
LEAST_CACHE, MOST_CACHE = 2**26, 2**30


class VLLMEngine:
    """Samples with vLLM from a copy of the policy that every push brings up to date.

    Each row is a request with a seed of its own, or all rows have one together (``Sampling.noise``), and the prefix
    cache is emptied before each call, so what is sampled does not depend on what was sampled before.

    Args:
        model: The torch model that is being trained; the engine starts with its weights.
        location: Folder or hub id with the model's config. No weights are read from there.
        max_length: Longest prompt plus response in tokens, at least 3.
        seed: For vLLM's own random state.
        eos_ids: Tokens that end a response.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        memory_share: Share of the GPU's memory that weights and KV cache may take; not used on a CPU.
        tensor_parallel: Processes of the group, neighbours in rank, that hold one engine together. All of them have to
            make the same calls; :class:`sharpen.llm.rollout.shared.SharedEngine` sees to it.
        sleeps: Whether :meth:`sleep` frees the GPU's memory, where the platform can.
        tokenizer: Finds the tokens that complete a stop string; needed where there are some.
        rows: Most rows that are sampled at a time; None: :data:`ROWS`.
        cache_bytes: Of the KV cache on a GPU, whatever ``memory_share`` is.

    Raises:
        InputError: a setting cannot be used.
        WeightSyncError: the engine does not compute what the model computes.
    """

    name = "vllm"

    def __init__(
        self,
        model: Any,
        *,
        location: str | Path,
        max_length: int,
        seed: int,
        eos_ids: Sequence[int],
        dtype: str = "float32",
        memory_share: float = 0.6,
        tensor_parallel: int = 1,
        sleeps: bool = False,
        tokenizer: Any = None,
        rows: int | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        if dtype not in PUSH_TOLERANCE:
            raise InputError("dtype", dtype, ", ".join(PUSH_TOLERANCE))
        if max_length < 3:
            raise InputError("max_length", max_length, "a whole number >= 3")
        self._max_length, self._eos_ids, self._tolerance = max_length, list(eos_ids), PUSH_TOLERANCE[dtype]
        self._tokenizer = tokenizer
        self._group_was_there = torch.distributed.is_available() and torch.distributed.is_initialized()
        # Among several processes each engine's worker takes the place in the group, and the GPU, of its own process.
        several = self._group_was_there and torch.distributed.get_world_size() > 1
        self._tensor_parallel, self._asleep = tensor_parallel, False
        with contained():
            from vllm import LLM
            from vllm.platforms import current_platform

            self._on_cpu = current_platform.is_cpu()
            self._sleeps = sleeps and current_platform.is_sleep_mode_available()
            with _plain_cpu_linears(), self._inspected_here(), self._own_heap():
                self._llm: Any = LLM(
                    str(location),
                    dtype=dtype,  # pyright: ignore[reportArgumentType]
                    seed=seed,
                    max_model_len=max_length,
                    max_num_seqs=rows or ROWS,
                    skip_tokenizer_init=True,  # prompts and responses are token ids
                    load_format="dummy",  # the weights are pushed below
                    logprobs_mode="processed_logprobs",  # those of the tempered, truncated distribution
                    distributed_executor_backend="external_launcher" if several else "uni",
                    tensor_parallel_size=tensor_parallel,
                    enable_sleep_mode=self._sleeps,
                    use_tqdm_on_load=False,
                    **self._platform_options(model, rows or ROWS, dtype, memory_share, cache_bytes),
                )
        self._vocabulary = vocabulary = model.config.get_text_config().vocab_size
        length = min(PROBE_TOKENS, max_length - 1)
        self._probe: list[int] = np.random.default_rng(0).integers(vocabulary, size=length).tolist()
        self._last_push: tuple[np.ndarray, np.ndarray] | None = None
        # Whether sums over the engine's and the model's weights are comparable; the first push finds out.
        self._summable: bool | None = None if tensor_parallel == 1 else False
        try:
            self.push_weights(model)
        except BaseException:
            self.close()
            raise

    def generate(
        self,
        prompts: list[list[int]],
        samples: int,
        sampling: Sampling,
        seed: int,
        *,
        limits: Sequence[int] | None = None,
        row_seeds: Sequence[int] | None = None,
    ) -> Rollout:
        """Return ``samples`` responses to each prompt; see :class:`sharpen.llm.rollout.types.Engine`."""
        from vllm import SamplingParams

        self._wake()
        longest = response_limits(prompts, samples, sampling, seed, self._max_length, self._vocabulary, limits)
        seeds = seeds_of_rows(len(prompts), samples, seed, row_seeds)
        stops = stops_for(self._tokenizer, () if sampling.ignore_eos else sampling.stop)
        ends = [*self._eos_ids, *(stops.token_ids if stops else ())]
        rows = [prompt for prompt in range(len(prompts)) for _ in range(samples)]
        parameters = [
            SamplingParams(
                max_tokens=longest[p],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                ignore_eos=sampling.ignore_eos,
                stop_token_ids=None if sampling.ignore_eos else ends,
                seed=own_seed if sampling.noise == "rows" else None,
                logprobs=0,  # the sampled token's only
                detokenize=False,
                skip_clone=True,  # made here for one row: to copy all that it holds is a quarter of a short row's time
            )
            for p, own_seed in zip(rows, seeds, strict=True)
        ]
        self._llm.reset_prefix_cache()  # a cached prefix is computed in another order, so it rounds differently
        with self._undisturbed():
            if sampling.noise == "batch":
                seed_everything(batch_seed(seeds))
            answers = sample_rows(self._llm, [prompts[p] for p in rows], parameters, stops)
        logprobs = [answer.logprobs for answer in answers]
        broken = sum(not np.isfinite(row).all() for row in logprobs)
        if broken:
            raise NonFiniteError("log-probabilities", f"in {broken} of {len(logprobs)} responses sampled by vLLM")
        return Rollout(
            prompt_ids=[list(prompts[p]) for p in rows],
            response_ids=[answer.token_ids for answer in answers],
            logprobs=logprobs,
            finished=[answer.finished for answer in answers],
            model_logprobs=logprobs if sampling.top_p == 1 and sampling.temperature in (0, 1) else None,
        )

    def push_weights(self, model: Any) -> None:
        """Copy the model's weights into the engine's, in place, and check that it computes the same.

        Two checks: the sum over the bits of all weights is the model's, and the log-probabilities of a fixed probe
        sequence are, because an engine can hold the new weights and still compute with repacked copies of the old ones.

        Raises:
            WeightSyncError: some weights were not loaded or are others than the model's, engine and model disagree by
                more than :data:`PUSH_TOLERANCE`, or the model moved since the last push and the engine did not.
            NonFiniteError: the model's own log-probabilities are not finite.
        """
        self._wake("weights")
        loaded: Loaded = self._llm.apply_model(lambda module: load(module, model))[0]
        if loaded.missing:
            named = f"{len(loaded.missing)} of the engine's weights as they were: {min(loaded.missing)}"
            raise WeightSyncError(f"the push left {named}")
        self._check_sums(loaded)
        self._wake("kv_cache")
        self._llm.reset_prefix_cache()  # its keys and values are the old weights'
        models, mine = self._model_logprobs(model), self._probe_logprobs()
        error = agreement(np.abs(mine - models)).high
        if not error <= self._tolerance:  # also true of NaN
            raise WeightSyncError(
                f"after a push, engine and model differ by {error:.3g} nats on a token (allowed: {self._tolerance:g})"
            )
        if self._last_push is not None:
            moves = [float(np.abs(new - old).max()) for new, old in zip((mine, models), self._last_push, strict=True)]
            if moves[0] == 0 and moves[1] > STALE_MOVE:
                raise WeightSyncError(f"the model moved by {moves[1]:.3g} nats on a token and the engine not at all")
        self._last_push = mine, models
        if self._summable is None:
            self._summable = loaded.pushed == loaded.held

    def sleep(self) -> None:
        """Move the engine's weights to the machine's memory and drop its KV cache, until the next call."""
        if self._sleeps and not self._asleep:
            self._llm.sleep(level=1)  # level 2 would forget the weights: a call before a push would sample from noise
            self._asleep = True

    def close(self) -> None:
        """Shut the engine down and free its memory."""
        if self._llm is None:
            return
        from vllm.distributed import parallel_state

        with self._own_heap():
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        parallel_state.destroy_model_parallel()
        if not self._group_was_there:  # else it is the trainer's
            parallel_state.destroy_distributed_environment()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _wake(self, part: str | None = None) -> None:
        """Take the memory back: of ``weights`` first, where they are about to be replaced, then of ``kv_cache``."""
        if self._asleep:
            gc.collect()
            torch.cuda.empty_cache()  # what the trainer's allocator holds on to is not there for the engine's
            self._llm.wake_up(tags=None if part is None else [part])
            self._asleep = part == "weights"

    def _check_sums(self, loaded: Loaded) -> None:
        if self._summable and loaded.pushed != loaded.held:
            raise WeightSyncError(
                f"after a push the engine's weights add up to {loaded.held:x} and the model's to {loaded.pushed:x}"
            )

    def _platform_options(
        self, model: Any, rows: int, dtype: str, memory_share: float, cache_bytes: int | None
    ) -> dict[str, Any]:
        if self._on_cpu:
            needed = _cache_bytes(model.config.get_text_config(), rows, self._max_length, dtype)
            return {"kv_cache_memory_bytes": needed, **CPU_OPTIONS}
        if cache_bytes is None:
            return {"gpu_memory_utilization": memory_share}
        # The share then is only what vLLM wants to see free at the start; a trainer may lie there already.
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return {"gpu_memory_utilization": min(memory_share, cache_bytes / total), "kv_cache_memory_bytes": cache_bytes}

    def _own_heap(self) -> AbstractContextManager[None]:
        return heap_left_alone() if self._on_cpu else nullcontext()

    def _inspected_here(self) -> AbstractContextManager[Any]:
        """Have vLLM look at its model's class in this process, which imports it anyway.

        Where no earlier program has left the answer in vLLM's cache it starts another one to ask, so as not to
        initialise CUDA here; on a CPU that takes five times what all else at a start does.
        """
        if not self._on_cpu:
            return nullcontext()
        return patch("vllm.model_executor.models.registry._run_in_subprocess", lambda ask: ask())

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        # On a CPU vLLM would compile one tiny function for half a minute at its first call.
        stance = "force_eager" if self._on_cpu else "default"
        with random_states_kept(), torch.compiler.set_stance(stance):
            yield

    def _probe_logprobs(self) -> np.ndarray:
        """Return the engine's log-probabilities of the probe's tokens after the first."""
        from vllm import SamplingParams

        parameters = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        with self._undisturbed():
            answer = self._llm.generate([{"prompt_token_ids": self._probe}], parameters, use_tqdm=False)[0]
        after_first = zip(self._probe[1:], answer.prompt_logprobs[1:], strict=True)
        return np.array([given[token].logprob for token, given in after_first])

    def _model_logprobs(self, model: Any) -> np.ndarray:
        with evaluating(model):
            scored = token_logprobs(model, [self._probe[:1]], [self._probe[1:]], micro_batch_tokens=PROBE_TOKENS)
        return scored.logprobs_BT[0].double().cpu().numpy()


def _cache_bytes(config: Any, rows: int, max_length: int, dtype: str) -> int:
    """Return bytes for keys and values of so many rows of full length, in whole blocks, within the bounds."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_value = (getattr(config, "num_key_value_heads", None) or heads) * width
    token = 2 * config.num_hidden_layers * key_value * getattr(torch, dtype).itemsize
    block = CPU_OPTIONS["block_size"]
    return min(MOST_CACHE, max(LEAST_CACHE, rows * -(-max_length // block) * block * token))


@contextmanager
def _plain_cpu_linears() -> Iterator[None]:
    """Make vLLM's CPU layers multiply by their weight itself.

    Otherwise they repack it once, after loading, and then compute with that copy: a push would change the weight, and
    not what is sampled.
    """

    def dispatch(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    with patch("vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm", dispatch):
        yield
