"""Metropolis-Hastings with suffix regeneration, as pure functions over any autoregressive model.

The target is p^alpha over responses: token sequences that end with EOS, or are cut at a limit. From the current
response x a step keeps the first k tokens, k uniform on 0 .. |x| - 1, and draws the rest anew from the proposal q (the
model at another temperature), which gives x'. Given k, this is proposed with probability q(x'_{k+1:} | x_{:k}) / |x|
and the reverse with q(x_{k+1:} | x_{:k}) / |x'|, so it is accepted with probability

    A = min(1, [p(x')/p(x)]^alpha * q(x_{k+1:} | x_{:k}) / q(x'_{k+1:} | x_{:k}) * |x| / |x'|),

which balances each k by itself, hence their mixture. The kept tokens cancel in p(x')/p(x): only suffixes are read.
With one fixed length this is algorithm 1 of Karan & Du 2025 ("Reasoning with Sampling", arXiv 2510.14901), whose
position is uniform too; the last factor is what variable lengths add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """A response, or the beginning or end of one.

    Args:
        tokens: Token ids, T of them.
        base: log p (nats) of each token given what stands before it, T numbers.
        proposal: log q of each token under the distribution it was drawn from, T numbers.
        ended: Whether it ended by EOS.
    """

    tokens: Tokens = ()
    base: tuple[float, ...] = ()
    proposal: tuple[float, ...] = ()
    ended: bool = False

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, end: Path) -> Path:
        return Path(self.tokens + end.tokens, self.base + end.base, self.proposal + end.proposal, end.ended)

    def keep(self, count: int) -> Path:
        """Return the first ``count`` tokens, fewer than all of them."""
        return Path(self.tokens[:count], self.base[:count], self.proposal[:count])

    def log_weight(self, start: int, alpha: float) -> float:
        """Return the sum over tokens from ``start`` on of alpha log p - log q, nats."""
        return alpha * math.fsum(self.base[start:]) - math.fsum(self.proposal[start:])


def kept_tokens(length: int, uniform: float) -> int:
    """Return how many tokens a step keeps: uniform on 0 .. length - 1 for a uniform number in [0, 1)."""
    return min(int(length * uniform), length - 1)


def log_acceptance(current: Path, proposed: Path, kept: int, alpha: float) -> float:
    """Return the log of the acceptance ratio, nats; above 0 it is always accepted.

    Args:
        current: The response x.
        proposed: The response x', whose first ``kept`` tokens are those of x.
        kept: Tokens that both share by construction (they may share more).
        alpha: Exponent of the target.
    """
    change = proposed.log_weight(kept, alpha) - current.log_weight(kept, alpha)
    return change + math.log(len(current)) - math.log(len(proposed))


def accepted(log_ratio: float, uniform: float) -> bool:
    """Return whether a uniform number in [0, 1) accepts: with probability min(1, exp(log_ratio))."""
    return uniform < math.exp(min(0.0, log_ratio))


def is_hopeless(current: Path, partial: Path, kept: int, alpha: float, uniform: float) -> bool:
    """Return whether a proposal of which only the beginning is drawn can no longer be accepted.

    True of q = p^alpha normalised token by token (temperature 1/alpha) with alpha >= 1 only: then each further token
    adds alpha log p - log q = log sum_v p_v^alpha <= 0, and the length only grows, so that the ratio only falls.
    """
    return not accepted(log_acceptance(current, partial, kept, alpha), uniform)


def block_limits(longest: int, block: int) -> list[int]:
    """Return the lengths to which a response grows, block by block.

    Example:
        >>> block_limits(10, 4)
        [4, 8, 10]
    """
    return [*range(block, longest, block), longest]
