"""What a sampling method asks of a model, and the loop that answers many methods' questions together.

A method is a generator for one response: it yields requests, is sent their answers, and returns a :class:`Sample`. It
reads as if it were alone; :func:`run` collects the requests of all of them, so that every round is one call of the
engine for each temperature. Random numbers come from (seed, prompt, chain, step) alone, so no result depends on which
others were computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from sharpen.llm.samplers.kernel import Path, Tokens

FLOAT_BITS = 2.0**-53


@dataclass(frozen=True)
class Extend:
    """Draw a continuation.

    Args:
        prefix: Prompt and kept tokens, at least one.
        limit: Longest continuation in tokens, at least 1.
        temperature: What the logits are divided by.
        seed: In [0, 2^63).
        entropies: Whether the entropies of the model's law of each new token are needed too.
    """

    prefix: Tokens
    limit: int
    temperature: float
    seed: int
    entropies: bool = False


@dataclass(frozen=True)
class Next:
    """Say which next tokens are the likeliest.

    Args:
        prefix: Prompt and kept tokens, at least one.
        top: How many.
    """

    prefix: Tokens
    top: int


class Likeliest(NamedTuple):
    """The likeliest next tokens, likeliest first, and log p of each, nats, both of shape [K]."""

    token_K: np.ndarray
    logprob_K: np.ndarray


Request = Extend | Next
Answer = Path | Likeliest  # of Extend, of Next


class Autoregressive(Protocol):
    """A model that can be sampled and read."""

    eos_ids: frozenset[int]

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        """Return a continuation for each request, which is the same whatever stands beside it."""
        ...

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        """Return the likeliest next tokens, as many as asked for or as there are, for each request."""
        ...


@dataclass
class Sample:
    """One response and what it cost.

    Args:
        path: The response.
        generated: Tokens drawn from the model on the way to it, those thrown away included.
        proposals: Proposals made: Metropolis-Hastings steps, candidates, rollouts.
        accepted: Proposals accepted; for a method without acceptance the one response that was returned.
        moved: Accepted proposals that changed the response.
        log_z: log of an unbiased estimate of Z = sum p^alpha, nats, where the method has one; its log is not unbiased.
        effective: Effective sample size 1 / sum w^2 of the weights w, of sum 1, that the response was drawn by.
    """

    path: Path = field(default_factory=Path)
    generated: int = 0
    proposals: int = 0
    accepted: int = 0
    moved: int = 0
    log_z: float | None = None
    effective: float | None = None


Method = Generator[list[Request], list[Answer], Sample]


@dataclass(frozen=True)
class Key:
    """Names one response among all that are ever drawn, and with it its random numbers.

    Args:
        seed: The run's seed.
        prompt: Place of the prompt in the data set.
        chain: Which of the prompt's responses.
    """

    seed: int
    prompt: int
    chain: int

    def seeds(self, *step: int, count: int = 1) -> list[int]:
        """Return ``count`` seeds in [0, 2^63) for one step, independent of every other step's and key's."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(self.prompt, self.chain, *step))
        return [int(word >> np.uint64(1)) for word in sequence.generate_state(count, np.uint64)]

    def uniforms(self, *step: int, count: int = 1) -> list[float]:
        """Return ``count`` numbers in [0, 1) for one step."""
        return [(word >> 10) * FLOAT_BITS for word in self.seeds(*step, count=count)]


def run(
    methods: Sequence[Method], model: Autoregressive, progress: Callable[[int, int], None] = lambda done, tokens: None
) -> list[Sample]:
    """Run generators to their end and return what they return, in their order.

    Args:
        methods: Each draws one response.
        model: Answers their requests.
        progress: Called after each round with the number of responses that are done and of tokens generated so far.
    """
    results: list[Sample | None] = [None] * len(methods)
    waiting: dict[int, list[Request]] = {}
    tokens = 0

    def advance(place: int, answers: list[Answer] | None) -> None:
        try:
            waiting[place] = next(methods[place]) if answers is None else methods[place].send(answers)
        except StopIteration as end:
            waiting.pop(place, None)
            results[place] = end.value

    for place in range(len(methods)):
        advance(place, None)
    while waiting:
        asked = [(place, request) for place, requests in waiting.items() for request in requests]
        answers: dict[int, list[Answer]] = {place: [] for place in waiting}
        # What several methods ask for alike is asked once: responses to a prompt may share a pool of samples.
        once = list(dict.fromkeys(request for _, request in asked))
        given_once = dict(zip(once, _answer(once, model), strict=True))
        tokens += sum(len(answer) for answer in given_once.values() if isinstance(answer, Path))
        for place, request in asked:
            answers[place].append(given_once[request])
        for place, given in answers.items():
            advance(place, given)
        progress(len(methods) - len(waiting), tokens)
    return [result for result in results if result is not None]


def _answer(requests: list[Request], model: Autoregressive) -> list[Answer]:
    """Return the answers in the requests' order, each kind and temperature asked for at once."""
    groups: dict[float | None, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(request.temperature if isinstance(request, Extend) else None, []).append(place)
    answers: list[Answer | None] = [None] * len(requests)
    for places in groups.values():
        asked = [requests[place] for place in places]
        extends = [request for request in asked if isinstance(request, Extend)]
        nexts = [request for request in asked if isinstance(request, Next)]
        given: list[Answer] = [*(model.extend(extends) if extends else []), *(model.likeliest(nexts) if nexts else [])]
        for place, answer in zip(places, given, strict=True):
            answers[place] = answer
    return [answer for answer in answers if answer is not None]
