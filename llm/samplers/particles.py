"""Particles for p^alpha: sequential Monte Carlo (Power-SMC) with an unbiased normaliser, and a chain over populations.

N particles grow by blocks at temperature 1/alpha, the proposal q, and carry weights p^alpha / q; where their effective
number falls below N/2 they are resampled. The product over resamplings of mean weights is an unbiased estimate of
Z = sum p^alpha (Del Moral 2004, theorem 7.4.2), and a particle drawn by the last weights has nearly the law p^alpha/Z.
Particle independent Metropolis-Hastings (Andrieu, Doucet & Holenstein 2010, section 2.4.2) makes it exact: a fresh
population replaces the current draw with probability min(1, Z'/Z), which leaves p^alpha/Z invariant for every N because
the estimates are unbiased. The share of accepted populations says how well they agree: where they do not, neither the
draw nor Z can be relied on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from sharpen.llm.samplers.kernel import Path, Tokens
from sharpen.llm.samplers.requests import Answer, Extend, Key, Method, Request, Sample
from sharpen.objective import InputError

GROW, RESAMPLE, DRAW, ACCEPT = 0, 1, 2, 3  # what a random number is for
RESAMPLE_BELOW = 0.5  # of the particles


@dataclass(frozen=True)
class Population:
    """Particles of p^alpha.

    Args:
        paths: N responses.
        weights: Of sum 1, N numbers.
        log_z: log of the estimate of Z, which is unbiased itself; its log is not. Nats.
        generated: Tokens drawn on the way.
    """

    paths: list[Path]
    weights: list[float]
    log_z: float
    generated: int


def population(
    prompt: Tokens, longest: int, key: Key, step: int, *, alpha: float, particles: int, grow: int
) -> Generator[list[Request], list[Answer], Population]:
    """Grow a population.

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        step: Which population of the key's it is.
        alpha: Exponent of the target, > 0.
        particles: N.
        grow: Tokens between two looks at the weights.
    """
    paths, log_w, log_z, generated = [Path()] * particles, np.zeros(particles), 0.0, 0
    for block in range(math.ceil(longest / grow)):
        growing = [place for place, path in enumerate(paths) if not path.ended and len(path) < longest]
        if not growing:
            break
        if block and _effective(log_w) < RESAMPLE_BELOW * particles:
            log_z += _log_mean(log_w)
            chosen = systematic(log_w, key.uniforms(RESAMPLE, step, block)[0])
            paths, log_w = [paths[place] for place in chosen], np.zeros(particles)
            growing = [place for place, path in enumerate(paths) if not path.ended and len(path) < longest]
        seeds = key.seeds(GROW, step, block, count=particles)
        ends = yield [
            Extend(prompt + paths[place].tokens, min(grow, longest - len(paths[place])), 1 / alpha, seeds[place])
            for place in growing
        ]
        for place, end in zip(growing, ends, strict=True):
            assert isinstance(end, Path)
            log_w[place] += end.log_weight(0, alpha)
            paths[place] = paths[place] + end
            generated += len(end)
    w = np.exp(log_w - log_w.max())
    return Population(paths, (w / w.sum()).tolist(), log_z + _log_mean(log_w), generated)


def particles(
    prompt: Tokens, longest: int, key: Key, *, alpha: float, particles: int = 16, grow: int = 8, populations: int = 1
) -> Method:
    """Draw one response: a particle of one population (Power-SMC), or a chain over several, each proposed afresh.

    Its ``log_z`` is that of the mean of the populations' estimates of Z.

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        alpha: Exponent of the target.
        particles: In each population, at least 1.
        grow: Tokens between two looks at the weights, at least 1.
        populations: How many, at least 1: the first is taken, the others are proposed.

    Raises:
        InputError: a number is below 1.
    """
    for name, count in (("particles", particles), ("grow", grow), ("populations", populations)):
        if not isinstance(count, int) or count < 1:
            raise InputError(name, count, "a whole number >= 1")
    sample, log_z, each = Sample(), -math.inf, []
    for step in range(populations):
        found = yield from population(prompt, longest, key, step, alpha=alpha, particles=particles, grow=grow)
        sample.generated += found.generated
        each.append(found.log_z)
        drawn, threshold = key.uniforms(DRAW, step)[0], key.uniforms(ACCEPT, step)[0]
        new = found.paths[_place(found.weights, drawn)]
        sample.proposals += step > 0
        if step == 0 or threshold < math.exp(min(0.0, found.log_z - log_z)):
            sample.accepted += step > 0
            sample.moved += step > 0 and new.tokens != sample.path.tokens
            sample.path, log_z = new, found.log_z
            sample.effective = _effective(np.log(np.maximum(found.weights, sys.float_info.min)))
    sample.log_z = _log_mean(np.array(each))
    return sample


def reweighted(prompt: Tokens, longest: int, key: Key, *, alpha: float, pool: int = 64) -> Method:
    """Draw one response: one of a pool of base samples, with probability w / sum w, w = p^(alpha - 1).

    All responses to a prompt share the pool, which is drawn once; the first pays for it. Each has the law of
    self-normalised importance sampling, whose bias is of order 1 / ``pool`` (Owen 2013, section 9.2). The mean of w
    estimates Z without bias.

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        alpha: Exponent of the target.
        pool: Base samples, at least 1.

    Raises:
        InputError: the number is below 1.
    """
    if not isinstance(pool, int) or pool < 1:
        raise InputError("pool", pool, "a whole number >= 1")
    seeds = Key(key.seed, key.prompt, 0).seeds(GROW, count=pool)
    paths = [path for path in (yield [Extend(prompt, longest, 1.0, seed) for seed in seeds]) if isinstance(path, Path)]
    log_w = np.array([(alpha - 1) * math.fsum(path.base) for path in paths])
    w = np.exp(log_w - log_w.max())
    chosen = paths[_place((w / w.sum()).tolist(), key.uniforms(DRAW)[0])]
    generated = sum(map(len, paths)) if key.chain == 0 else 0
    return Sample(chosen, generated, pool, 1, 1, log_z=_log_mean(log_w), effective=_effective(log_w))


def systematic(log_weight: np.ndarray, uniform: float) -> list[int]:
    """Return N places drawn by weight with one random number in [0, 1), each as often as N w rounded up or down.

    Example:
        >>> systematic(np.log([0.5, 0.25, 0.25]), 0.5)
        [0, 1, 2]
        >>> systematic(np.log([0.98, 0.01, 0.01]), 0.5)
        [0, 0, 0]
    """
    w = np.exp(log_weight - log_weight.max())
    edges = np.cumsum(w) / w.sum()
    points = (np.arange(w.size) + uniform) / w.size
    return np.minimum(np.searchsorted(edges, points, side="right"), w.size - 1).tolist()


def _place(weights: Sequence[float], uniform: float) -> int:
    return min(int(np.searchsorted(np.cumsum(weights), uniform, side="right")), len(weights) - 1)


def _effective(log_weight: np.ndarray) -> float:
    w = np.exp(log_weight - log_weight.max())
    return float(w.sum() ** 2 / (w @ w))


def _log_mean(log_weight: np.ndarray) -> float:
    return float(np.logaddexp.reduce(log_weight)) - math.log(log_weight.size)
