"""A language model that may say only few tokens, tabulated: every response, its probability, and draws by table.

The restricted model's law of the next token is the model's own, conditioned on the allowed tokens,

    p_A(v | s) = p(v | s) / sum_{w in A} p(w | s),    v in A.

All prefixes of allowed tokens are passed through the model once. What a sampler sees afterwards is this table and
nothing else: the p_A that it draws from is the one whose responses are enumerated, so a deviation is the sampler's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sharpen.llm.outcomes.passes import Passes
from sharpen.llm.samplers.kernel import Path, Tokens
from sharpen.llm.samplers.requests import Extend, Likeliest, Next
from sharpen.objective import InputError

PASSED_AT_ONCE = 64


class State(NamedTuple):
    """The next token after a prefix at a temperature: log p, log of the tempered p, its running sums; H(p), nats."""

    base: list[float]
    proposal: list[float]
    cdf: list[float]
    entropy: float


@dataclass
class Restricted:
    """An autoregressive model over few tokens, and all its responses to one prompt.

    Args:
        prompt: Token ids.
        allowed: Token ids, A of them, ascending.
        eos_ids: Those that end a response.
        longest: Longest response in tokens; one cut there is a response.
        table: log p of each allowed token after each prefix that can be continued, nats, shape [A].
    """

    prompt: Tokens
    allowed: Tokens
    eos_ids: frozenset[int]
    longest: int
    table: dict[Tokens, np.ndarray]
    _states: dict[tuple[Tokens, float], State] = field(default_factory=dict, init=False, repr=False, compare=False)

    def law(self) -> dict[Tokens, float]:
        """Return log p of every response, nats, in lexicographic order of its tokens' places."""
        return dict(self._responses((), 0.0))

    def _responses(self, prefix: Tokens, logprob: float) -> Iterator[tuple[Tokens, float]]:
        for token, log_p in zip(self.allowed, self.table[prefix].tolist(), strict=True):
            grown = (*prefix, token)
            if token in self.eos_ids or len(grown) == self.longest:
                yield grown, logprob + log_p
            else:
                yield from self._responses(grown, logprob + log_p)

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        """Return a continuation for each request, a function of it alone."""
        return [self._extended(request) for request in requests]

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        """Return the likeliest next tokens for each request."""
        found = []
        for request in requests:
            log_A = self.table[self._response(request.prefix)]
            order = np.argsort(-log_A, kind="stable")[: request.top]
            found.append(Likeliest(np.array(self.allowed)[order], log_A[order]))
        return found

    def _extended(self, request: Extend) -> Path:
        kept = self._response(request.prefix)
        uniforms = np.random.default_rng(request.seed).random(request.limit).tolist()
        tokens, base, proposal, entropy = [], [], [], []
        for uniform in uniforms:
            state = self._state(kept, request.temperature)
            place = bisect_right(state.cdf, uniform)
            place = min(place, len(self.allowed) - 1)  # rounding may leave the sum below 1
            tokens.append(self.allowed[place])
            base.append(state.base[place])
            proposal.append(state.proposal[place])
            if request.entropies:
                entropy.append(state.entropy)
            kept = (*kept, tokens[-1])
            if tokens[-1] in self.eos_ids:
                break
        return Path(tuple(tokens), tuple(base), tuple(proposal), tokens[-1] in self.eos_ids, tuple(entropy))

    def _state(self, kept: Tokens, temperature: float) -> State:
        """Return what a draw after a prefix needs, computed once: samplers draw thousands of times after each."""
        found = self._states.get((kept, temperature))
        if found is None:
            log_A = self.table[kept]
            tempered_A = _normalised(log_A / temperature)
            cdf_A, entropy = np.exp(tempered_A).cumsum(), -float(np.exp(log_A) @ log_A)
            found = State(log_A.tolist(), tempered_A.tolist(), cdf_A.tolist(), entropy)
            self._states[kept, temperature] = found
        return found

    def _response(self, prefix: Tokens) -> Tokens:
        """Return what a sampler has kept of a response.

        Raises:
            InputError: it asked for what this model cannot continue.
        """
        kept = prefix[len(self.prompt) :]
        if prefix[: len(self.prompt)] != self.prompt or kept not in self.table:
            raise InputError(
                "method", prefix, "a sampler that continues the prompt by tokens of the model, below its end"
            )
        return kept


def restrict(
    model: Any, prompt: Sequence[int], allowed: Sequence[int], ends: Sequence[int], longest: int
) -> Restricted:
    """Return a causal language model restricted to few tokens.

    Args:
        model: In evaluation mode.
        prompt: Token ids, at least one.
        allowed: Tokens that a response may hold, those that end it among them.
        ends: Those that end it.
        longest: Longest response in tokens.
    """
    going = sorted(set(allowed) - set(ends))
    passes, order = Passes(model, prompt, longest), tuple(sorted(allowed))
    table = {(): _conditioned(passes.root()[0].numpy(), order)}
    level: list[Tokens] = [()]
    for _ in range(longest - 1):
        level = [(*prefix, token) for prefix in level for token in going]
        for start in range(0, len(level), PASSED_AT_ONCE):
            some = level[start : start + PASSED_AT_ONCE]
            rows = passes.after(some).numpy()
            table |= {prefix: _conditioned(row, order) for prefix, row in zip(some, rows, strict=True)}
    return Restricted(tuple(prompt), order, frozenset(ends), longest, table)


def responses_of(going: int, longest: int) -> int:
    """Return how many responses there are with one token that ends them and so many that do not.

    Example:
        >>> responses_of(2, 3)
        15
    """
    return sum(going**length for length in range(longest + 1))


def likeliest_tokens(model: Any, prompt: Sequence[int], ends: Sequence[int], count: int) -> tuple[Tokens, Tokens]:
    """Return the tokens that are likeliest after a prompt and go on, ``count`` of them, and the likeliest that ends.

    Args:
        model: In evaluation mode.
        prompt: Token ids, at least one.
        ends: Tokens that end a response.
        count: How many, at least 1.
    """
    log_V = Passes(model, prompt, 1).root()[0].numpy()
    order = np.argsort(-log_V, kind="stable").tolist()
    going = [token for token in order if token not in ends][:count]
    return tuple(going), tuple([token for token in order if token in ends][:1])


def _conditioned(log_V: np.ndarray, allowed: Tokens) -> np.ndarray:
    return _normalised(log_V[list(allowed)])


def _normalised(log_A: np.ndarray) -> np.ndarray:
    return log_A - np.logaddexp.reduce(log_A)
