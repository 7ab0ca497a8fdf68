"""What every rollout engine takes and gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from sharpen.objective import InputError


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled.

    Args:
        max_new_tokens: Longest response in tokens, EOS included; at least 1.
        temperature: Logits are divided by it; 0, which is greedy decoding, or finite and >= 0.01, the least that vLLM
            divides by. Training uses 1.
        top_p: Mass of the nucleus that tokens are sampled from, in (0, 1]. Training uses 1.
        ignore_eos: Go on after an EOS token and a stop string, so that every response has the same length.
        stop: Strings that end a response as EOS does, by the token that completes one; :mod:`sharpen.llm.rollout.stops`
            says which tokens do.
        noise: ``rows``: each row draws from a generator of its own seed, and is the same in any batch. ``batch``: the
            engine may draw all rows' noise from one generator, seeded by all rows' seeds: the same call gives the same
            rows, in another batch a row is another. vLLM draws from generators of rows one after the other, and has no
            fast sampler for them; the transformers engine draws each row's own in any case.

    Raises:
        InputError: a setting is out of range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    noise: Literal["rows", "batch"] = "rows"

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError("max_new_tokens", self.max_new_tokens, "a whole number >= 1")
        if self.temperature != 0 and not 0.01 <= self.temperature < math.inf:
            raise InputError("temperature", self.temperature, "0 or a finite number >= 0.01")
        if not 0 < self.top_p <= 1:
            raise InputError("top_p", self.top_p, "a number in (0, 1]")
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise InputError("stop", self.stop, "a tuple of texts, none of them empty")


@dataclass(frozen=True)
class Rollout:
    """Sampled responses, R = prompts x samples rows, prompt-major: row = prompt * samples + sample.

    Args:
        prompt_ids: R token lists, each prompt repeated ``samples`` times.
        response_ids: R token lists; a response that ended by itself includes the token that ended it: EOS, or the one
            that completed a stop string.
        logprobs: R lists, log-probability (nats) of each response token under the distribution it was sampled from:
            after temperature and top-p, renormalised. Greedy decoding (temperature 0) samples from a point mass,
            whose log-probabilities say nothing, so there they are the model's at temperature 1.
        finished: R flags, True if the response ended by EOS or a stop string, False if it was cut at its token limit.
        model_logprobs: R lists, the same tokens' log-probabilities under the model itself (temperature 1, no nucleus);
            None where the engine knows only those of the distribution it sampled from.
    """

    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    logprobs: list[list[float]]
    finished: list[bool]
    model_logprobs: list[list[float]] | None = None


@runtime_checkable
class Engine(Protocol):
    """Samples responses from the current policy."""

    @property
    def name(self) -> str:
        """What the engine is called in reports."""
        ...

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
        """Return ``samples`` responses to each prompt.

        The same weights, prompts, samples, sampling and seed give the same tokens, whatever was generated before. A
        response is cut at ``sampling.max_new_tokens``, or earlier where prompt and response fill the engine's
        ``max_length``.

        Args:
            prompts: Token ids, at least one per prompt.
            samples: Responses to each prompt.
            sampling: Temperature, nucleus and length.
            seed: Whole number >= 0; each row's own is derived from it, the prompt's place and the sample.
            limits: Longest response to each prompt, where they differ; ``sampling.max_new_tokens`` still holds.
            row_seeds: A seed in [0, 2^63) for each row instead of ``seed``: a row is then the same in any batch.

        Raises:
            InputError: no prompt, an empty one, or one that leaves no room for a response; ``samples`` < 1; a negative
                ``seed``; not one limit >= 1 for each prompt, or not one seed for each row.
        """
        ...

    def push_weights(self, model: Any) -> None:
        """Make the engine sample from the current weights of this torch model, in place and without touching a disk.

        Raises:
            WeightSyncError: the engine's log-probabilities differ from the model's afterwards.
        """
        ...

    def sleep(self) -> None:
        """Give memory back until the next call, which wakes the engine, where the platform can; else do nothing."""
        ...

    def close(self) -> None:
        """Release the engine's memory; it cannot be used afterwards."""
        ...


class WeightSyncError(RuntimeError):
    """The engine does not sample from the weights that were pushed to it."""
