"""What engines share: checks of a request, its random numbers, and care of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sharpen.llm.rollout.types import Sampling
from sharpen.objective import InputError


def response_limits(
    prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling, seed: int, max_length: int
) -> list[int]:
    """Return the longest response in tokens that each prompt leaves room for, after checking the request.

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
    return [min(sampling.max_new_tokens, max_length - len(prompt)) for prompt in prompts]


def eos_token_ids(model: Any, tokenizer: Any = None) -> tuple[int, ...]:
    """Return every token that ends a response: the tokenizer's EOS and the model's own list.

    Chat models often end a turn by a token that is not the tokenizer's EOS, and name both in their generation config.
    """
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if own is None:
        own = getattr(model.config, "eos_token_id", None)
    named = [*(own if isinstance(own, list | tuple) else [own]), getattr(tokenizer, "eos_token_id", None)]
    return tuple(sorted({int(token) for token in named if token is not None}))


def row_seed(seed: int, prompt: int, sample: int) -> int:
    """Return a 63-bit seed for one row that is independent of every other row's."""
    state = np.random.SeedSequence(seed, spawn_key=(prompt, sample)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def row_uniforms(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """Return ``count`` float64 numbers in [0, 1) for one row; a longer request begins with the shorter one's."""
    return np.random.Generator(np.random.Philox(row_seed(seed, prompt, sample))).random(count)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put the model in eval mode, and back in the mode it was in afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
