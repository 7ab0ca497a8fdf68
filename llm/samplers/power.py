"""Power sampling: responses from p^alpha by Metropolis-Hastings (Karan & Du 2025)."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

from sharpen.llm.samplers.kernel import (
    ENTROPY,
    UNIFORM,
    Path,
    Tokens,
    accepted,
    block_limits,
    is_hopeless,
    kept_at_rise,
    kept_tokens,
    log_acceptance,
)
from sharpen.llm.samplers.requests import Answer, Extend, Key, Method, Request, Sample

GROW, STEP = 0, 1  # what a random number is for


@dataclass(frozen=True)
class Power:
    """How a chain runs.

    Args:
        alpha: Exponent of the target, > 0.
        block: Tokens that are appended before the chain runs again; the target is then p^alpha of responses so long.
        steps: Metropolis-Hastings steps per block.
        temperature: Of the proposal; 1/alpha in Karan & Du.
        chunk: Draw proposals so many tokens at a time and drop those that can no longer be accepted. It changes no
            law; None draws each proposal at once. Used where the ratio can only fall (:func:`can_stop_early`).
        early_stop: Return as soon as a block ends with EOS, as the authors' code does. The chain then has not run at
            the full length: short responses are returned too often.
        budget: Tokens to generate; in the last block steps go on until it is spent, and instead of ``steps``.
        cut: Where a step cuts: anywhere (``uniform``), or rather where the next token's entropy rises (``entropy``).
    """

    alpha: float
    block: int
    steps: int
    temperature: float
    chunk: int | None = None
    early_stop: bool = False
    budget: int | None = None
    cut: str = UNIFORM


def can_stop_early(settings: Power) -> bool:
    """Return whether the acceptance ratio can only fall while a proposal grows: alpha >= 1, temperature 1/alpha."""
    return settings.alpha >= 1 and abs(settings.alpha * settings.temperature - 1) < 1e-9


def power(prompt: Tokens, longest: int, key: Key, settings: Power) -> Method:
    """Draw one response: a chain that grows by blocks.

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        settings: How the chain runs.
    """
    sample = Sample()
    limits = block_limits(longest, settings.block)
    for number, limit in enumerate(limits):
        if len(sample.path) < limit and not sample.path.ended:
            seed = key.seeds(GROW, number)[0]
            room = limit - len(sample.path)
            request = Extend(prompt + sample.path.tokens, room, settings.temperature, seed, settings.cut == ENTROPY)
            (end,) = yield [request]
            assert isinstance(end, Path)
            sample.path, sample.generated = sample.path + end, sample.generated + len(end)
        step, last = 0, limit == longest
        while _goes_on(sample, step, last, settings):
            yield from _step(sample, prompt, limit, (key, number, step), settings)
            step += 1
        if settings.early_stop and sample.path.ended:
            break
    return sample


def power_sampler(
    prompt: Tokens,
    longest: int,
    key: Key,
    *,
    alpha: float,
    block: int,
    steps: int,
    proposal_temperature: float | None,
    chunk: int | None,
    early_stop: bool,
    budget: int | None,
    cut: str = UNIFORM,
) -> Method:
    """Draw one response by :func:`power`; its settings are those of :class:`Power`, and temperature None is 1/alpha."""
    temperature = proposal_temperature or 1 / alpha
    return power(prompt, longest, key, Power(alpha, block, steps, temperature, chunk, early_stop, budget, cut))


def _goes_on(sample: Sample, step: int, last: bool, settings: Power) -> bool:
    if settings.budget is None:
        return step < settings.steps
    return sample.generated < settings.budget and (last or step < settings.steps)


def _step(
    sample: Sample, prompt: Tokens, limit: int, at: tuple[Key, int, int], settings: Power
) -> Generator[list[Request], list[Answer], None]:
    """Propose once and accept or not."""
    key, block, number = at
    current = sample.path
    place, threshold = key.uniforms(STEP, block, number, count=2)
    by_entropy = settings.cut == ENTROPY
    kept = kept_at_rise(current, place) if by_entropy else kept_tokens(len(current), place)
    proposed, hopeless, part = current.keep(kept), False, 0
    chunk = settings.chunk if settings.chunk is not None and can_stop_early(settings) else limit
    while not (hopeless or proposed.ended or len(proposed) == limit):
        seed = key.seeds(STEP, block, number, part)[0]
        room = min(chunk, limit - len(proposed))
        (end,) = yield [Extend(prompt + proposed.tokens, room, settings.temperature, seed, by_entropy)]
        assert isinstance(end, Path)
        proposed, sample.generated, part = proposed + end, sample.generated + len(end), part + 1
        if chunk < limit:
            hopeless = is_hopeless(current, proposed, kept, settings.alpha, threshold, settings.cut)
    sample.proposals += 1
    log_ratio = -math.inf if hopeless else log_acceptance(current, proposed, kept, settings.alpha, settings.cut)
    if accepted(log_ratio, threshold):
        sample.path = proposed
        sample.accepted += 1
        sample.moved += proposed.tokens != current.tokens
