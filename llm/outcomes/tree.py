"""The likeliest responses of a model to one prompt, and what all the others can weigh at most (T15).

A tree of prefixes grows from the prompt, the likeliest prefix first. A response that ends, by an EOS token, by a stop
string or by the length limit, is an outcome. The rest is the frontier: prefixes that were not followed, and the
children below a threshold, of which only sums are kept. Below a prefix of probability u, for alpha >= 1,

    sum p(x)^alpha <= u^alpha,    because sum (p/u)^alpha <= sum p/u = 1.

With Z = sum p^alpha over the outcomes and U = sum u^alpha over the frontier the bounds of E[r] under p^alpha/Z, rewards
in [0, 1], are R / (Z + U) and (R + U) / (Z + U): their distance is U / (Z + U) whatever the rewards. They are T15's;
``sharpen.theory.audit.certified`` has them with a reward tilt, and a test compares the two.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sharpen.llm.outcomes.passes import Passes
from sharpen.llm.rollout.stops import Stops

if TYPE_CHECKING:
    from numpy.typing import NDArray

Prefix = tuple[int, ...]
EXACT, BUDGET, THRESHOLD, WIDTH = "exact", "budget", "threshold", "width"


class Growth(NamedTuple):
    """When a tree stops growing.

    Args:
        alphas: Exponents >= 1 whose bounds of E[r] are to be close.
        width: How close, in (0, 1].
        threshold: Children of a probability below are summed, never followed.
        budget: Most forward tokens.
        longest: Most tokens of a response; one of that length is an outcome as it stands.
        batch: Prefixes computed in one pass.
    """

    alphas: tuple[float, ...]
    width: float
    threshold: float
    budget: int
    longest: int
    batch: int = 16


class Outcome(NamedTuple):
    """A response.

    Args:
        tokens: Its token ids, with the one that ended it.
        logprob: log p, nats.
        finished: Whether a token or a stop string ended it, and no limit.
    """

    tokens: Prefix
    logprob: float
    finished: bool


class Remainder(NamedTuple):
    """Children that were summed.

    Args:
        depth: Their number of tokens.
        alpha: An exponent.
        logprob: (1/alpha) log sum u^alpha over them, nats: the log-probability of one prefix that weighs as much.
    """

    depth: int
    alpha: float
    logprob: float


class Tree(NamedTuple):
    """What is known of one prompt.

    Args:
        outcomes: Likeliest first.
        frontier: Number of tokens and log u of each prefix that was not followed, likeliest first.
        remainders: By exponent and depth; the exponent 1, where they are plain probabilities, is always there.
        forward_tokens: Tokens passed through the model beyond the prompt.
        stopped: ``exact`` (nothing is unseen), ``width``, ``threshold`` (the likeliest prefix is below it) or
            ``budget``.
    """

    outcomes: list[Outcome]
    frontier: list[tuple[int, float]]
    remainders: list[Remainder]
    forward_tokens: int
    stopped: str


def grow(model: Any, prompt: Sequence[int], growth: Growth, *, eos_ids: Sequence[int], stops: Stops | None) -> Tree:
    """Return the tree of a prompt.

    Args:
        model: A causal language model, in evaluation mode.
        prompt: Token ids, at least one.
        growth: When it stops.
        eos_ids: Tokens that end a response.
        stops: What else ends one; None: nothing.
    """
    passes = Passes(model, prompt, growth.longest)
    growing = _Growing(growth, frozenset(eos_ids), stops)
    growing.add((), 0.0, passes.root()[0].numpy())
    while (stopped := growing.stopped()) is None:
        nodes = growing.taken(passes)
        if not nodes:
            stopped = BUDGET
            break
        for (log_u, prefix), log_V in zip(nodes, passes.after([prefix for _, prefix in nodes]).numpy(), strict=True):
            growing.add(prefix, log_u, log_V)
    return growing.tree(passes.tokens, stopped)


class _Growing:
    """A tree on its way: outcomes, a heap of prefixes to follow, and sums of what will not be followed."""

    def __init__(self, growth: Growth, ends: frozenset[int], stops: Stops | None) -> None:
        self._growth, self._stops = growth, stops
        self._ends = ends | frozenset(stops.token_ids if stops is not None else ())
        self._outcomes: list[Outcome] = []
        self._heap: list[tuple[float, Prefix]] = []  # by -log u: the likeliest first, ties by tokens
        self._sums: dict[tuple[int, float], float] = {}  # log sum u^alpha by depth and exponent

    def add(self, prefix: Prefix, log_u: float, log_V: NDArray[np.float64]) -> None:
        """Put the children of a prefix where they belong, given log p of each token after it, shape [V]."""
        logs_V = log_u + log_V
        kept_V = logs_V >= math.log(self._growth.threshold)
        for token in np.flatnonzero(kept_V).tolist():
            child, logprob = (*prefix, token), float(logs_V[token])
            finished = token in self._ends or (self._stops is not None and self._stops.completed_by(child))
            if finished or len(child) == self._growth.longest:
                self._outcomes.append(Outcome(child, logprob, finished))
            else:
                heapq.heappush(self._heap, (-logprob, child))
        rest = logs_V[~kept_V & np.isfinite(logs_V)]
        for alpha in {1.0, *self._growth.alphas} if rest.size else ():
            key = (len(prefix) + 1, alpha)
            total = float(np.logaddexp.reduce(alpha * rest))
            self._sums[key] = float(np.logaddexp(self._sums.get(key, -math.inf), total))

    def stopped(self) -> str | None:
        """Return why the tree need not or cannot grow; None if it goes on."""
        if not self._heap and not self._sums:
            return EXACT
        if all(self._width(alpha) <= self._growth.width for alpha in self._growth.alphas):
            return WIDTH
        return None if self._heap else THRESHOLD

    def taken(self, passes: Passes) -> list[tuple[float, Prefix]]:
        """Take the likeliest prefixes off the heap, with log u, as many as one pass computes and the budget allows."""
        nodes: list[tuple[float, Prefix]] = []
        left = self._growth.budget - passes.tokens
        while self._heap and len(nodes) < self._growth.batch:
            left -= passes.cost(self._heap[0][1])
            if left < 0:
                break
            lost, prefix = heapq.heappop(self._heap)
            nodes.append((-lost, prefix))
        return nodes

    def tree(self, forward_tokens: int, stopped: str) -> Tree:
        """Return what is known now."""
        remainders = [Remainder(depth, alpha, total / alpha) for (depth, alpha), total in sorted(self._sums.items())]
        frontier = [(len(prefix), -lost) for lost, prefix in sorted(self._heap)]
        outcomes = sorted(self._outcomes, key=lambda one: (-one.logprob, one.tokens))
        return Tree(outcomes, frontier, remainders, forward_tokens, stopped)

    def _width(self, alpha: float) -> float:
        """Return U / (Z + U)."""
        seen = [alpha * one.logprob for one in self._outcomes]
        unseen = [-alpha * lost for lost, _ in self._heap]
        unseen += [total for (_, exponent), total in self._sums.items() if exponent == alpha]
        log_z, log_u = (float(np.logaddexp.reduce(logs)) if logs else -math.inf for logs in (seen, unseen))
        return math.exp(log_u - float(np.logaddexp(log_z, log_u))) if unseen else 0.0
