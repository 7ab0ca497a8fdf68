"""What counts of right samples and of answers tell of two policies; no log-probabilities are needed.

With c right ones of n samples of a problem, C(n, k) the number of sets of k,

    pass@k = 1 - C(n - c, k)/C(n, k)   some of k right (Chen et al. 2021),    pass^k = C(c, k)/C(n, k)   all of k right,

each without bias. The sharpening tax (Oh et al. 2026, arXiv:2610.01509) is what training took from the gain of trying
again: with means over problems, A(K) = sum over k < K of (pass@K - pass@k), S(K) = A(K)/((K - 1)(1 - pass@1)), and
tax = base - policy of either.

A problem's support is told by n samples of each (Wu et al. 2025, arXiv:2507.14843): kept if both have a right sample,
gained if the policy alone has one, lost if the base alone, out if neither. Of two equal policies some problems are
gained and some lost too: with c right ones among the 2 n samples of both, none of the base's is right with the chance
C(2n - c, n)/C(2n, n). That share is given beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, gammaln

from sharpen.objective import InputError
from sharpen.objective.counts import FloatArray, IntArray, pass_at_k
from sharpen.theory.core.intervals import UNIT, Resampler

LEAST_DIFFERENCE = 1e-12  # of two pass@k: below it they are equal, and rounding made no crossing


def pass_hat_k(correct: ArrayLike, n: ArrayLike, k: ArrayLike) -> FloatArray:
    """Return C(c, k)/C(n, k) of each problem, the unbiased estimate of P(all of k samples are right).

    Args:
        correct: c, whole numbers from 0 to n.
        n: How many were drawn; broadcasts with ``correct``.
        k: A whole number from 1 to the least n; or a list of K of them, which adds a last axis.

    Raises:
        InputError: an entry is out of range, or the shapes do not fit.

    Example:
        >>> pass_hat_k([0, 2, 4], 4, [1, 2]).round(4).tolist()
        [[0.0, 0.0], [0.5, 0.1667], [1.0, 1.0]]
    """
    return 1.0 - pass_at_k(np.asarray(n) - np.asarray(correct), n, k)


class Counted:
    """Counts of two policies' samples of the same problems: how many there are and how many are right.

    Args:
        base: Right samples of the base, whole numbers, shape [P].
        base_n: Samples of the base, shape [P] or one for all.
        policy: Right samples of the policy, shape [P].
        policy_n: Its samples.

    Raises:
        InputError: fewer than two problems, other numbers of them, or counts out of range.
    """

    def __init__(self, base: ArrayLike, base_n: ArrayLike, policy: ArrayLike, policy_n: ArrayLike) -> None:
        self.right = {"base": np.asarray(base), "policy": np.asarray(policy)}
        problems = self.right["base"].shape
        if self.right["policy"].shape != problems or len(problems) != 1 or problems[0] < 2:
            raise InputError(
                "problems", self.right["policy"].shape, "the same of both, at least 2: intervals are over them"
            )
        self.n = {"base": np.broadcast_to(base_n, problems), "policy": np.broadcast_to(policy_n, problems)}
        self.least = int(min(each.min() for each in self.n.values()))
        ks = np.arange(1, self.least + 1)
        self.curve = {name: pass_at_k(self.right[name], self.n[name], ks) for name in self.right}  # [P, K]

    def rows(self, ks: Sequence[int], resampler: Resampler) -> list[dict[str, Any]]:
        """Return pass@k and pass^k of both and their differences, a row a k, with 95 % intervals over problems."""
        found = []
        for k in ks:
            row: dict[str, Any] = {"k": k}
            for kind, of in (("pass@k", pass_at_k), ("pass^k", pass_hat_k)):
                columns = {name: of(self.right[name], self.n[name], k) for name in self.right}
                row[kind] = {name: _row(column, resampler, UNIT) for name, column in columns.items()}
                row[kind]["difference"] = _row(columns["policy"] - columns["base"], resampler)
            found.append(row)
        return found

    def crossover(self, resampler: Resampler) -> dict[str, Any]:
        """Return the first k at which the base's pass@k is above the policy's.

        Returns:
            ``value``, ``low``, ``high``: None where there is none up to ``most``, the largest k; 1 where the base is
            ahead from the start; ``chance``: the share of the draws of the problems in which there is one.
        """
        difference = self.curve["policy"] - self.curve["base"]
        drawn: list[float] = []

        def first(means: FloatArray) -> FloatArray:
            ahead = means < -LEAST_DIFFERENCE
            return np.where(ahead.any(axis=1), ahead.argmax(axis=1) + 1.0, self.least + 1.0)

        def counted(means: FloatArray) -> FloatArray:
            ks = first(means)
            drawn.append(float(np.mean(ks <= self.least)))
            return ks

        value = float(first(difference.mean(axis=0, keepdims=True))[0])
        low, high = resampler.function(counted, difference)
        ends = {"value": value, "low": np.floor(low), "high": np.ceil(high)}
        found: dict[str, Any] = {name: int(end) if end <= self.least else None for name, end in ends.items()}
        return found | {"chance": drawn[0], "most": self.least}

    def tax(self, resampler: Resampler, most: int | None = None) -> dict[str, Any]:
        """Return A(K) and S(K) of both policies and the sharpening tax, base minus policy.

        Args:
            resampler: Of the problems.
            most: K; the least number of samples if not given.

        Returns:
            ``K``; ``A`` and ``S``: each ``base``, ``policy`` and ``tax``, with ``value``, ``low``, ``high``; S is None
            where a policy has every sample right, or K is 1.

        Raises:
            InputError: K is out of range.
        """
        k = self.least if most is None else most
        if not 1 <= k <= self.least:
            raise InputError("k", k, f"1 to the number of samples, {self.least}")
        areas = {name: k * curve[:, k - 1] - curve[:, :k].sum(axis=1) for name, curve in self.curve.items()}
        first = {name: curve[:, 0] for name, curve in self.curve.items()}
        columns = np.stack([areas["base"], areas["policy"], first["base"], first["policy"]], axis=1)

        def scaled(means: FloatArray, place: int) -> FloatArray:
            with np.errstate(divide="ignore", invalid="ignore"):
                return means[:, place] / ((k - 1) * (1.0 - means[:, 2 + place]))

        area = {"base": lambda m: m[:, 0], "policy": lambda m: m[:, 1], "tax": lambda m: m[:, 0] - m[:, 1]}
        share = {
            "base": lambda m: scaled(m, 0),
            "policy": lambda m: scaled(m, 1),
            "tax": lambda m: scaled(m, 0) - scaled(m, 1),
        }
        found: dict[str, Any] = {"K": k}
        for name, parts in (("A", area), ("S", share)):
            found[name] = {part: _function(of, columns, resampler) for part, of in parts.items()}
        return found

    def support(self, resampler: Resampler) -> dict[str, Any]:
        """Return which problems the policies solve at all with n samples, as shares of the problems.

        Returns:
            ``n``: the least number of samples; ``kept``, ``gained``, ``lost``, ``out``: ``value``, ``low``, ``high``;
            ``gained_by_chance`` and ``lost_by_chance``: what two equal policies would have.
        """
        base, policy = (self.right[name] > 0 for name in ("base", "policy"))
        kinds = {"kept": base & policy, "gained": policy & ~base, "lost": base & ~policy, "out": ~base & ~policy}
        found: dict[str, Any] = {"n": self.least}
        found |= {name: _row(one.astype(float), resampler, UNIT) for name, one in kinds.items()}
        c, n_b, n_p = self.right["base"] + self.right["policy"], self.n["base"], self.n["policy"]
        none = {"gained": _chance_of_none(c, n_b, n_b + n_p), "lost": _chance_of_none(c, n_p, n_b + n_p)}
        return found | {f"{name}_by_chance": float(np.mean(np.where(c > 0, one, 0.0))) for name, one in none.items()}


def _chance_of_none(c: IntArray, n: IntArray, total: IntArray) -> FloatArray:
    """Return the chance that none of c marked ones is among n of ``total``, C(total - c, n)/C(total, n)."""
    left = total - c
    logs = gammaln(left + 1) - gammaln(np.maximum(left - n, 0) + 1) - gammaln(total + 1) + gammaln(total - n + 1)
    return np.where(left >= n, np.exp(logs), 0.0)


def answers(
    base: Sequence[Sequence[str | None]], policy: Sequence[Sequence[str | None]], resampler: Resampler
) -> dict[str, Any]:
    """Return what the policies' answers have in common, by mass, and how spread they are.

    Args:
        base: A label of each sample's answer, by problem; None for none, which is an answer of its own.
        policy: The same of the policy.
        resampler: Of the problems.

    Returns:
        ``new``: the share of the policy's samples whose answer is none of the base's n; ``given_up``: the share of the
        base's samples whose answer is none of the policy's; both ``by_chance`` of equal policies; ``entropy`` of the
        ``base``, the ``policy`` and the ``difference``, nats, by Grassberger's estimator (arXiv:physics/0307138),
        whose bias falls exponentially with the samples of an answer.
    """
    pairs = [(Counter(b), Counter(p)) for b, p in zip(base, policy, strict=True)]
    new = [sum(count for one, count in p.items() if one not in b) / p.total() for b, p in pairs]
    gone = [sum(count for one, count in b.items() if one not in p) / b.total() for b, p in pairs]
    chances = [np.mean([_unseen_by_chance(b, p) for b, p in each]) for each in (pairs, [(p, b) for b, p in pairs])]
    entropy = {name: np.array([entropy_of(pair[at]) for pair in pairs]) for at, name in enumerate(("base", "policy"))}
    entropy["difference"] = entropy["policy"] - entropy["base"]
    return {
        "new": _row(np.array(new), resampler, UNIT) | {"by_chance": float(chances[0])},
        "given_up": _row(np.array(gone), resampler, UNIT) | {"by_chance": float(chances[1])},
        "entropy": {name: _row(column, resampler) for name, column in entropy.items()},
    }


def token_entropy(base: FloatArray, policy: FloatArray, resampler: Resampler) -> dict[str, Any]:
    """Return the entropy per token of both policies and their difference, nats, ratios of sums over problems.

    Args:
        base: Summed entropies and tokens of the base's samples to each problem, shape [P, 2].
        policy: The same of the policy.
        resampler: Of the problems.
    """
    columns = np.concatenate([base, policy], axis=1)
    of = {
        "base": lambda m: m[:, 0] / m[:, 1],
        "policy": lambda m: m[:, 2] / m[:, 3],
        "difference": lambda m: m[:, 2] / m[:, 3] - m[:, 0] / m[:, 1],
    }
    return {name: _function(one, columns, resampler) for name, one in of.items()}


def entropy_of(counted: Counter[str | None]) -> float:
    """Return the estimated entropy of what was counted, nats.

    Example:
        >>> round(entropy_of(Counter({"1": 50, "2": 50})), 4), entropy_of(Counter({"1": 8}))
        (0.6931, 0.0)
    """
    counts = np.array(list(counted.values()), dtype=np.float64)
    n = counts.sum()
    sign = 1.0 - 2.0 * (counts % 2)
    terms = digamma(counts) + 0.5 * sign * (digamma((counts + 1) / 2) - digamma(counts / 2))
    return float(max(0.0, np.log(n) - counts @ terms / n)) if counts.size > 1 else 0.0


def _unseen_by_chance(first: Counter[str | None], second: Counter[str | None]) -> float:
    """Return the expected share of the second's samples whose label the first has not, were both of one policy."""
    both = first + second
    c = np.array(list(both.values()))
    total, n = np.full(c.size, both.total()), np.full(c.size, first.total())
    return float(c @ _chance_of_none(c, n, total) / second.total())


def _row(values: FloatArray, resampler: Resampler, ends: tuple[float, float] | None = None) -> dict[str, Any]:
    low, high = resampler.mean(values, ends)
    value = float(values.mean())
    return {"value": value, "low": min(low, value), "high": max(high, value)}  # of equal values it is their end


def _function(of: Any, columns: FloatArray, resampler: Resampler) -> dict[str, Any]:
    value = float(of(columns.mean(axis=0, keepdims=True))[0])
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    low, high = resampler.function(of, columns)
    return {"value": value, "low": low, "high": high}
