"""Sampling without a chain: the model itself, token-level low temperature, best-of-N by likelihood."""

from __future__ import annotations

import math
from typing import Annotated

from sharpen.llm.samplers.kernel import Path, Tokens
from sharpen.llm.samplers.registry import Unless
from sharpen.llm.samplers.requests import Extend, Key, Method, Sample


def plain(prompt: Tokens, longest: int, key: Key) -> Method:
    """Draw one response of the model itself."""
    return single(prompt, longest, key, 1.0)


def low_temperature(prompt: Tokens, longest: int, key: Key, *, alpha: float) -> Method:
    """Draw one response, each token sharpened alone."""
    return single(prompt, longest, key, 1 / alpha)


def single(prompt: Tokens, longest: int, key: Key, temperature: float) -> Method:
    """Draw one response at a temperature: 1 is the base model, 1/alpha token-level low temperature.

    Low temperature draws each token from p(v | s)^alpha / sum_w p(w | s)^alpha. That is not p^alpha over responses: it
    leaves out how likely the future of each token is (see :mod:`sharpen.llm.samplers.scalable`).

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        temperature: What the logits are divided by.
    """
    (path,) = yield [Extend(prompt, longest, temperature, key.seeds(0)[0])]
    assert isinstance(path, Path)
    return Sample(path, len(path), proposals=1, accepted=1, moved=1)


def best_of_n(
    prompt: Tokens,
    longest: int,
    key: Key,
    *,
    n: Annotated[int, Unless("budget")],
    score: str = "sum",
    budget: int | None = None,
) -> Method:
    """Draw n responses from the base model and return the likeliest: arg max of log p(x), or of log p(x) / |x|.

    This is the inference-time sharpening of Huang et al. 2024. The first of equals is returned.

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        n: Candidates.
        score: ``sum`` or ``mean``.
        budget: Tokens to generate; candidates are drawn until it is spent, instead of n of them.
    """
    candidates: list[Path] = []
    spent = 0
    # With a budget one at a time: how many it pays for is not known before they are drawn.
    while not candidates or (budget is not None and spent < budget):
        count = n if budget is None else 1
        numbers = range(len(candidates), len(candidates) + count)
        drawn = yield [Extend(prompt, longest, 1.0, key.seeds(number)[0]) for number in numbers]
        candidates += [path for path in drawn if isinstance(path, Path)]
        spent = sum(map(len, candidates))
    best = max(candidates, key=lambda path: math.fsum(path.base) / (len(path) if score == "mean" else 1))
    return Sample(best, spent, proposals=len(candidates), accepted=1, moved=1)
