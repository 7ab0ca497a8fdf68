"""The split of KL(pi || p) from samples of both models, each scored by both (T16).

A prompt has n_p samples of p and n_pi samples of pi. Together they are samples of the mixture with the density
m = n_p p + n_pi pi (balance heuristic, Veach and Guibas 1995), so any sum over outcomes of f is estimated by the sum
over the pooled samples of f / m: p / m is at most 1 / n_p and pi / m at most 1 / n_pi, whatever the models are. Samples
that repeat are samples like others.

    KL(pi || p)          = sum (pi d - pi + p) / m,   d = log pi - log p: unbiased, no term below 0, 0 if pi = p
    E_pi[f]              = sum f pi / m  /  sum pi / m
    log E_p[e^(theta f)] = log (sum e^(theta f) p / m  /  sum p / m)

The last two lean by terms of order 1/n, which the delta method takes away: with the shares a_g of G groups of samples
in a sum S, one or more of each model in a group, Var(S)/S^2 is G/(G - 1) sum (a_g - 1/G)^2 and E[log S] = log E[S] -
Var(S)/(2 E[S]^2). The maximum over theta leans by the half of s' H^-1 s, s the mean score over the prompts. What is
left after both can be below 0 where there is nothing to explain, and is not cut off.

With the prompts' weights the maximum moves as the mean of the prompts' values at it (envelope theorem), and in the next
order as one Newton step: half of s' H^-1 s with those weights. So intervals over prompts need no further fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError
from sharpen.theory.audit.deviance import FEATURES, SHARPENING, Points, Stack, alone, scales, split_points
from sharpen.theory.core.change import kl_terms
from sharpen.theory.core.problem import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scored:
    """Samples of one model to one prompt, scored by both models.

    Args:
        base: log p of each, nats per sequence, shape [n].
        policy: log pi of each, shape [n].
        reward: In [0, 1], shape [n].
        length: Tokens, shape [n].
    """

    base: FloatArray
    policy: FloatArray
    reward: FloatArray
    length: FloatArray

    @classmethod
    def of(cls, base: ArrayLike, policy: ArrayLike, reward: ArrayLike, length: ArrayLike) -> Scored:
        """Return checked samples.

        Raises:
            InputError: fewer than two samples, columns of other lengths, or numbers that are not finite.
        """
        given = {"base": base, "policy": policy, "reward": reward, "length": length}
        columns = {name: np.asarray(column, dtype=np.float64) for name, column in given.items()}
        size = columns["base"].size
        if size < 2:
            raise InputError("samples", size, "at least 2 of each model to each prompt")
        for name, column in columns.items():
            if column.shape != (size,) or not np.all(np.isfinite(column)):
                raise InputError(
                    name, column if column.size < 8 else f"shape {list(column.shape)}", "a finite number a sample"
                )
        return cls(**columns)


@dataclass(frozen=True, eq=False)
class Pooled:
    """One prompt's samples of both models, pooled and weighted so that sums over them estimate sums over all outcomes.

    Args:
        points: For the fits; its measures are p / m and pi / m.
        plain_policy: pi's own samples alone, each with the same weight, shape [n].
        group: Which group of independent samples each belongs to, 0..G-1, shape [n].
        groups: G.
    """

    points: Points
    plain_policy: FloatArray
    group: IntArray
    groups: int

    @classmethod
    def of(cls, of_base: Scored, of_policy: Scored) -> Pooled:
        """Return the pooled samples of a prompt.

        Args:
            of_base: Samples of p.
            of_policy: Samples of pi.
        """
        both = (of_base, of_policy)
        log_p, log_pi = (np.concatenate([getattr(one, name) for one in both]) for name in ("base", "policy"))
        features = np.stack(
            [log_p, *(np.concatenate([getattr(one, name) for one in both]) for name in ("reward", "length"))], axis=1
        )
        n_p, n_pi = of_base.base.size, of_policy.base.size
        log_m = np.logaddexp(np.log(n_p) + log_p, np.log(n_pi) + log_pi)
        kl = float(np.sum(kl_terms(log_p - log_m, log_pi - log_p)))
        weight = np.exp(log_pi - log_m)
        groups = min(n_p, n_pi)
        group = np.concatenate([np.arange(n_p) % groups, np.arange(n_pi) % groups])
        plain = np.concatenate([np.zeros(n_p), np.full(n_pi, 1.0 / n_pi)])
        return cls(Points(log_p - log_m, weight / weight.sum(), features, kl), plain, group, groups)


@dataclass(frozen=True, eq=False)
class Family:
    """What one family explains, prompt by prompt.

    Attributes:
        theta: Natural parameters, one per feature of the family.
        attained: Whether they are finite; if not, the family explains this much in a limit.
        explained: KL(pi_S || p) of each prompt, nats, without what few samples and prompts add, shape [P].
        optimism: What few prompts had added, nats.
        score: H^-1/2 s of each prompt, shape [P, F].
        pull: H^-1 s of each prompt, theta's units, one per feature: theta moves by their weighted mean, shape [P] each.
        size: Effective sample size of p_theta's weights of each prompt, shape [P].
    """

    theta: dict[str, float]
    attained: bool
    explained: FloatArray
    optimism: float
    score: FloatArray
    pull: dict[str, FloatArray]
    size: FloatArray


def families(prompts: Sequence[Pooled], features: Sequence[str] = FEATURES) -> dict[str, Family]:
    """Return what each family explains, by its features joined by ``+``.

    Args:
        prompts: P of them, at least 2.
        features: Names of the columns of their features.
    """
    points = [one.points for one in prompts]
    fits, scale = split_points(points, features).fits, scales(points)
    sums = _Groups(prompts)
    found: dict[str, Family] = {}
    for name, fit in fits.items():
        places = [place for place, one in enumerate(features) if one in name.split("+") and scale[place] > 0]
        if not places:
            nothing = np.zeros(len(prompts))
            sizes = sums.size(Stack(points, [], np.ones(0)).member(np.zeros(0)))
            found[name] = Family(
                fit.theta, True, nothing, 0.0, nothing[:, None], dict.fromkeys(fit.theta, nothing), sizes
            )
            continue
        stack = Stack(points, places, scale[places])
        theta = np.array([fit.theta[features[place]] for place in places]) * scale[places]
        log_normalizers, means, covariances = stack.expansion(theta)
        root = _inverse_root(covariances.mean(axis=0))
        score = means @ root
        optimism = 0.5 * np.sum(score**2, axis=1) / (len(prompts) - 1)
        pull = score @ root
        explained = -log_normalizers - sums.bias(stack, theta) - optimism
        moves = {one: np.zeros(len(prompts)) for one in fit.theta}
        moves |= {features[place]: -pull[:, at] / scale[place] for at, place in enumerate(places)}
        found[name] = Family(
            fit.theta, fit.attained, explained, float(optimism.mean()), score, moves, sums.size(stack.member(theta))
        )
    return found


def _inverse_root(bend: FloatArray) -> FloatArray:
    """Return H^-1/2 in the directions that H has."""
    sizes, directions = np.linalg.eigh(bend)
    kept = sizes > 1e-10 * max(float(sizes[-1]), 1e-300)
    return (directions[:, kept] / np.sqrt(sizes[kept])) @ directions[:, kept].T


class _Groups:
    """Sums over groups of samples, the units that are independent, of all prompts."""

    def __init__(self, prompts: Sequence[Pooled]) -> None:
        self.counts = np.array([one.groups for one in prompts])
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.prompt = np.repeat(np.arange(len(prompts)), self.counts)
        self.points = np.concatenate([one.group + start for one, start in zip(prompts, self.starts, strict=True)])
        self.first = np.concatenate([[0], np.cumsum([one.group.size for one in prompts])[:-1]])

    def covariance(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the covariance of two sums over a prompt's points, by their terms, shape [P]."""
        total = int(self.counts.sum())
        a, b = (np.bincount(self.points, weights=each, minlength=total) for each in (x, y))
        a, b = (each - (np.add.reduceat(each, self.starts) / self.counts)[self.prompt] for each in (a, b))
        return np.add.reduceat(a * b, self.starts) * self.counts / (self.counts - 1)

    def bias(self, stack: Stack, theta: FloatArray) -> FloatArray:
        """Return by how much the mean over few samples overstates what theta explains, shape [P]."""
        member, base = stack.member(theta), stack.member(np.zeros(theta.size))
        tilt = stack.columns @ theta
        ratio = -self.covariance(stack.policy * tilt, stack.policy)
        return ratio + 0.5 * (self.covariance(member, member) - self.covariance(base, base))

    def size(self, weight: FloatArray) -> FloatArray:
        """Return (sum w)^2 / sum w^2 of weights with sum 1, shape [P]."""
        return 1.0 / np.add.reduceat(weight**2, self.first)


@dataclass(frozen=True, eq=False)
class Own:
    """Each prompt's own closest p^alpha.

    Attributes:
        alpha: Its exponent, infinite in a limit, NaN where log p does not vary, shape [P].
        bound: What such exponents can explain at most, nats, shape [P]: its expectation over samples is no less. E_pi
            is the plain mean of pi's samples and E_p the plain sum over m, both without bias; a logarithm of such a
            sum is low on average, and a maximum over alpha high. Many samples make it tight.
    """

    alpha: FloatArray
    bound: FloatArray


def own_exponents(prompts: Sequence[Pooled]) -> Own:
    """Return the exponent of each prompt by itself; its features have log p first."""
    alpha, bound = np.full(len(prompts), np.nan), np.zeros(len(prompts))
    weighed = alone([one.points for one in prompts])
    plain = alone([replace(one.points, policy=one.plain_policy) for one in prompts])
    for place, (one, closest, highest) in enumerate(zip(prompts, weighed, plain, strict=True)):
        bound[place] = -np.logaddexp.reduce(one.points.log_base)
        if closest is not None and highest is not None:  # both or neither: whether log p varies is the base's
            theta = closest.theta[SHARPENING]
            alpha[place] = 1.0 + theta if closest.attained else np.copysign(np.inf, theta)
            bound[place] += highest.explained
    return Own(alpha, bound)
