"""From settings to a model that can be enumerated, and a sampler's draws from it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sharpen.llm.configs.exactness import ExactnessConfig
from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.exactness.restricted import Restricted, likeliest_tokens, responses_of, restrict
from sharpen.llm.preflight.checks import for_sampling
from sharpen.llm.samplers import Key, run
from sharpen.llm.samplers.kernel import Tokens
from sharpen.llm.sampling.methods import method
from sharpen.objective import InputError

DRAWN_AT_ONCE = 1000
MOST_RESPONSES = 20_000  # so that a table takes seconds and there are not more classes than draws can fill


@dataclass(frozen=True)
class Drawn:
    """A sampler's draws.

    Args:
        counts: How often each response came.
        draws: How many there are.
        generated: Tokens drawn from the model for them.
        proposals: Proposals made.
        moved: Those accepted that changed a response.
    """

    counts: Counter[Tokens] = field(default_factory=Counter)
    draws: int = 0
    generated: int = 0
    proposals: int = 0
    moved: int = 0


def open_model(sampled: SampleConfig, config: ExactnessConfig) -> tuple[Restricted, Any]:
    """Return the model that a sampler is verified on, and its tokenizer.

    Args:
        sampled: Names the model, the data and how it is asked.
        config: Says which problem is asked, and how small the model is made.

    Raises:
        InputError: model or data cannot be used; there is no such problem; or there would be too many responses.
    """
    if (responses := responses_of(config.tokens, config.longest)) > MOST_RESPONSES:
        fewer = (
            f"fewer tokens or a shorter response: {responses:,} responses, of which {MOST_RESPONSES:,} are enumerated"
        )
        raise InputError("longest", config.longest, fewer)
    _, fits = for_sampling(sampled)
    if config.problem > len(fits.prompts.prompts):
        raise InputError("problem", config.problem, f"1 to {len(fits.prompts.prompts)}, the problems of {sampled.data}")
    from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
    from sharpen.llm.rollout.requests import eos_token_ids
    from sharpen.llm.rollout.stops import stops_for
    from sharpen.llm.tasks.templates import encode, stops

    source = ModelSource(sampled.model, sampled.model)
    tokenizer = load_tokenizer(source)
    model = load_model(source, _device(sampled.device), "float32").eval()
    prompt = encode(tokenizer, fits.prompts.prompts[config.problem - 1].text, sampled.template, sampled.chat_options)
    stopping = stops_for(tokenizer, stops(sampled.template))
    ends = {*eos_token_ids(model, tokenizer), *(stopping.token_ids if stopping is not None else ())}
    going, end = likeliest_tokens(model, prompt, sorted(ends), config.tokens)
    return restrict(model, prompt, (*going, *end), end, config.longest), tokenizer


def draw(
    config: SampleConfig,
    model: Restricted,
    draws: int,
    progress: Callable[[int, float], None] = lambda done, seconds: None,
) -> Drawn:
    """Return independent draws of one response each.

    Each is a prompt of its own to the sampler's random numbers: responses to one prompt may share some.

    Args:
        config: The sampler and its settings.
        model: What it draws from.
        draws: How many.
        progress: Called after each batch with the draws done and the seconds since the first.

    Raises:
        InputError: the sampler is none, or asks for what the model cannot continue.
    """
    counts: Counter[Tokens] = Counter()
    total = np.zeros(3, dtype=np.int64)
    began = time.monotonic()
    for start in range(0, draws, DRAWN_AT_ONCE):
        keys = [Key(config.seed, place, 0) for place in range(start, min(draws, start + DRAWN_AT_ONCE))]
        samples = run([method(config, model.prompt, model.longest, key, model) for key in keys], model)
        counts.update(sample.path.tokens for sample in samples)
        total += [sum(getattr(one, name) for one in samples) for name in ("generated", "proposals", "moved")]
        progress(start + len(keys), time.monotonic() - began)
    return Drawn(counts, draws, *total.tolist())


def _device(asked: str) -> str:
    import torch

    return asked if asked != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
