"""What engines share: checks of a request, its random numbers, and care of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from sharpen.llm.rollout.types import Sampling
from sharpen.objective import InputError


def response_limits(
    prompts: Sequence[Sequence[int]],
    samples: int,
    sampling: Sampling,
    seed: int,
    max_length: int,
    vocabulary: int,
    limits: Sequence[int] | None = None,
) -> list[int]:
    """Return the longest response in tokens that each prompt may have, after checking the request.

    Raises:
        InputError: see :meth:`sharpen.llm.rollout.types.Engine.generate`.
    """
    if not prompts:
        raise InputError("prompts", prompts, "at least one prompt")
    if samples < 1:
        raise InputError("samples", samples, "a whole number >= 1")
    if seed < 0:
        raise InputError("seed", seed, "a whole number >= 0")
    for index, prompt in enumerate(prompts):
        if not 1 <= len(prompt) < max_length:
            allowed = f"1 to {max_length - 1} tokens, so that a response fits in max_length {max_length}"
            raise InputError(f"prompt {index}", f"{len(prompt)} tokens", allowed)
        foreign = next((token for token in prompt if not 0 <= token < vocabulary), None)
        if foreign is not None:
            allowed = f"tokens from 0 to {vocabulary - 1}, the model's; the tokenizer is another model's"
            raise InputError(f"prompt {index}", foreign, allowed)
    if limits is None:
        limits = [sampling.max_new_tokens] * len(prompts)
    if len(limits) != len(prompts) or min(limits) < 1:
        raise InputError("limits", list(limits), f"{len(prompts)} whole numbers >= 1, one for each prompt")
    most = sampling.max_new_tokens
    return [min(most, limit, max_length - len(prompt)) for limit, prompt in zip(limits, prompts, strict=True)]


def seeds_of_rows(prompts: int, samples: int, seed: int, row_seeds: Sequence[int] | None) -> list[int]:
    """Return the seed of each row, prompt-major: those given, or those derived from ``seed``.

    Raises:
        InputError: the seeds given are not one for each row, or one is not in [0, 2^63).
    """
    if row_seeds is None:
        return [row_seed(seed, prompt, sample) for prompt in range(prompts) for sample in range(samples)]
    if len(row_seeds) != prompts * samples or not all(0 <= given < 2**63 for given in row_seeds):
        raise InputError("row_seeds", f"{len(row_seeds)} numbers", f"{prompts * samples} whole numbers in [0, 2^63)")
    return list(row_seeds)


def eos_token_ids(model: Any, tokenizer: Any = None) -> tuple[int, ...]:
    """Return every token that ends a response: the tokenizer's EOS and the model's own list.

    Chat models often end a turn by a token that is not the tokenizer's EOS, and name both in their generation config.

    Raises:
        InputError: one of them is no token that the model could ever say.
    """
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if own is None:
        own = getattr(model.config, "eos_token_id", None)
    named = [*(own if isinstance(own, list | tuple) else [own]), getattr(tokenizer, "eos_token_id", None)]
    vocabulary = model.config.get_text_config().vocab_size
    for token in named:
        if token is not None and not (type(token) is int and 0 <= token < vocabulary):
            raise InputError("eos_token_id", token, f"a token of the model, a whole number from 0 to {vocabulary - 1}")
    return tuple(sorted({token for token in named if token is not None}))


def row_seed(seed: int, prompt: int, sample: int) -> int:
    """Return a 63-bit seed for one row that is independent of every other row's."""
    state = np.random.SeedSequence(seed, spawn_key=(prompt, sample)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def batch_seed(seeds: Sequence[int]) -> int:
    """Return a 63-bit seed of a whole batch, given those of its rows: another order is another batch."""
    state = np.random.SeedSequence(list(seeds)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def noise_for(asked: str, engine: str, device: str) -> Literal["rows", "batch"]:
    """Return whose generators a run's rollouts draw from; ``auto``: the batch's where that is faster, vLLM on a GPU."""
    if asked == "auto":
        return "batch" if engine == "vllm" and device == "cuda" else "rows"
    return "batch" if asked == "batch" else "rows"


def row_uniforms(seed: int, count: int) -> np.ndarray:
    """Return ``count`` float64 numbers in [0, 1) for the row with this seed; fewer are the beginning of more."""
    return np.random.Generator(np.random.Philox(seed)).random(count)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put the model in eval mode, and back in the mode it was in afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
