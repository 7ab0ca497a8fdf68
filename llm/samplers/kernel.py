"""Metropolis-Hastings with suffix regeneration, as pure functions over any autoregressive model.

The target is p^alpha over responses: token sequences that end with EOS, or are cut at a limit. From the current
response x a step keeps the first k tokens, k uniform on 0 .. |x| - 1, and draws the rest anew from the proposal q (the
model at another temperature), which gives x'. Given k, this is proposed with probability q(x'_{k+1:} | x_{:k}) / |x|
and the reverse with q(x_{k+1:} | x_{:k}) / |x'|, so it is accepted with probability

    A = min(1, [p(x')/p(x)]^alpha * q(x_{k+1:} | x_{:k}) / q(x'_{k+1:} | x_{:k}) * |x| / |x'|),

which balances each k by itself, hence their mixture. The kept tokens cancel in p(x')/p(x): only suffixes are read.
With one fixed length this is algorithm 1 of Karan & Du 2025 ("Reasoning with Sampling", arXiv 2510.14901), whose
position is uniform too; the last factor is what variable lengths add.

Cuts need not be uniform. Where place k has a weight c_k > 0 that the kept tokens decide, k is proposed with probability
c_k / C(x), C(x) = sum over 0 .. |x| - 1, and the last factor is C(x)/C(x'): c_k itself cancels. Entropy cuts (Zhou,
Mehrotra & Liu 2026, "Reasoning with Sampling: Cutting at Decision Points", arXiv 2605.30327) prefer places where the
entropy H_k of the next token rises, c_k = max(0, H_k - H_{k-1}) + FLAT with H_{-1} = 0.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass

Tokens = tuple[int, ...]
UNIFORM, ENTROPY = "uniform", "entropy"
FLAT = 0.1  # nats, weight of a cut where the entropy does not rise; above 0, or some places would never be cut


@dataclass(frozen=True)
class Path:
    """A response, or the beginning or end of one.

    Args:
        tokens: Token ids, T of them.
        base: log p (nats) of each token given what stands before it, T numbers.
        proposal: log q of each token under the distribution it was drawn from, T numbers.
        ended: Whether it ended by EOS.
        entropy: Entropy (nats) of the model's law of each token given what stands before it, T numbers; empty where it
            was not asked for.
    """

    tokens: Tokens = ()
    base: tuple[float, ...] = ()
    proposal: tuple[float, ...] = ()
    ended: bool = False
    entropy: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, end: Path) -> Path:
        base, proposal, entropy = self.base + end.base, self.proposal + end.proposal, self.entropy + end.entropy
        return Path(self.tokens + end.tokens, base, proposal, end.ended, entropy)

    def keep(self, count: int) -> Path:
        """Return the first ``count`` tokens, fewer than all of them."""
        return Path(self.tokens[:count], self.base[:count], self.proposal[:count], entropy=self.entropy[:count])

    def log_weight(self, start: int, alpha: float) -> float:
        """Return the sum over tokens from ``start`` on of alpha log p - log q, nats."""
        return alpha * math.fsum(self.base[start:]) - math.fsum(self.proposal[start:])


def kept_tokens(length: int, uniform: float) -> int:
    """Return how many tokens a step keeps: uniform on 0 .. length - 1 for a uniform number in [0, 1)."""
    return min(int(length * uniform), length - 1)


def rises(path: Path) -> list[float]:
    """Return c_k of each place of a response whose entropies are known: how much the entropy rises there, and FLAT."""
    before = (0.0, *path.entropy[:-1])
    return [max(0.0, now - last) + FLAT for now, last in zip(path.entropy, before, strict=True)]


def kept_at_rise(path: Path, uniform: float) -> int:
    """Return how many tokens a step keeps: k with probability c_k / C(x) for a uniform number in [0, 1)."""
    sums = list(itertools.accumulate(rises(path)))
    return min(bisect.bisect_right(sums, uniform * sums[-1]), len(path) - 1)


def log_cut_mass(path: Path, cut: str) -> float:
    """Return log C(x): log |x| where cuts are ``uniform``, else (``entropy``) that of the sum of :func:`rises`."""
    return math.log(len(path) if cut == UNIFORM else math.fsum(rises(path)))


def log_acceptance(current: Path, proposed: Path, kept: int, alpha: float, cut: str = UNIFORM) -> float:
    """Return the log of the acceptance ratio, nats; above 0 it is always accepted.

    Args:
        current: The response x.
        proposed: The response x', whose first ``kept`` tokens are those of x.
        kept: Tokens that both share by construction (they may share more).
        alpha: Exponent of the target.
        cut: How places are cut, ``uniform`` or ``entropy``.
    """
    change = proposed.log_weight(kept, alpha) - current.log_weight(kept, alpha)
    return change + log_cut_mass(current, cut) - log_cut_mass(proposed, cut)


def accepted(log_ratio: float, uniform: float) -> bool:
    """Return whether a uniform number in [0, 1) accepts: with probability min(1, exp(log_ratio))."""
    return uniform < math.exp(min(0.0, log_ratio))


def is_hopeless(current: Path, partial: Path, kept: int, alpha: float, uniform: float, cut: str = UNIFORM) -> bool:
    """Return whether a proposal of which only the beginning is drawn can no longer be accepted.

    True of q = p^alpha normalised token by token (temperature 1/alpha) with alpha >= 1 only: then each further token
    adds alpha log p - log q = log sum_v p_v^alpha <= 0, and C(x') only grows, so that the ratio only falls.
    """
    return not accepted(log_acceptance(current, partial, kept, alpha, cut), uniform)


def block_limits(longest: int, block: int) -> list[int]:
    """Return the lengths to which a response grows, block by block.

    Example:
        >>> block_limits(10, 4)
        [4, 8, 10]
    """
    return [*range(block, longest, block), longest]
