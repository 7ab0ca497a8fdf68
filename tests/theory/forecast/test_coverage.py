"""How often the forecast's intervals cover the truth, by simulation, with the bias of few samples in it.

Worlds of prompts: short answers, whose responses repeat, and long ones, whose log-likelihoods spread over several nats
and never do. An evaluation draws prompts and samples of each; the truth is the mean over all prompts of the world.
Where the forecast says that it cannot tell, nothing is counted: that share is asserted apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sharpen.objective import Objective
from sharpen.theory.core.intervals import UNIT, Resampler
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.forecast.estimate import REWARD, estimate
from sharpen.theory.forecast.samples import Samples
from sharpen.theory.forecast.slopes import slope

WORLD = 2000  # prompts


@dataclass
class World:
    """log p of each outcome of each prompt, and its chance of being right, shape [prompts, outcomes]."""

    log_p: FloatArray
    right: FloatArray
    repeats: bool

    @classmethod
    def short(cls, align: float, spread: float) -> World:
        """40 outcomes with Gaussian logits, marked once for all."""
        rng = np.random.default_rng(10)
        logit = rng.normal(size=(WORLD, 40))
        p = np.exp(spread * logit)
        chance = 1 / (1 + np.exp(1 - align * logit - rng.normal(size=(WORLD, 1))))
        return cls(np.log(p / p.sum(axis=1, keepdims=True)), (rng.random(chance.shape) < chance).astype(float), True)

    @classmethod
    def long(cls, align: float, spread: float) -> World:
        """2,000 equally likely kinds of response, each too many to be drawn twice; their log p Gaussian."""
        rng = np.random.default_rng(11)
        scatter = rng.normal(size=(WORLD, 2000))
        chance = 1 / (1 + np.exp(1 - align * scatter - rng.normal(size=(WORLD, 1))))
        return cls(spread * scatter - 60, chance, False)

    def truth(self, alpha: float) -> FloatArray:
        """E[r] under p^alpha of every prompt, shape [prompts]."""
        log_w = (alpha if self.repeats else alpha - 1) * self.log_p
        w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
        return (w * self.right).sum(axis=1) / w.sum(axis=1)

    def slopes(self) -> FloatArray:
        """Cov_p(r, log p) of every prompt, shape [prompts]."""
        p = np.exp(self.log_p) if self.repeats else np.full(self.log_p.shape, 1 / self.log_p.shape[1])
        middle = (p * self.log_p).sum(axis=1, keepdims=True)
        return (p * self.right * (self.log_p - middle)).sum(axis=1)

    def evaluation(self, prompts: int, samples: int, rng: np.random.Generator) -> list[Samples]:
        """Draw prompts, and samples of each."""
        drawn = []
        for place in rng.integers(0, WORLD, prompts):
            p = np.exp(self.log_p[place]) if self.repeats else None
            at = rng.choice(self.log_p.shape[1], size=samples, p=None if p is None else p / p.sum())
            names = [str(one) for one in (at if self.repeats else range(samples))]
            right = rng.random(samples) < self.right[place, at]
            drawn.append(Samples.of(self.log_p[place, at], right.astype(float), response=names))
        return drawn


WORLDS = {
    "short, aligned": World.short(1.0, 2.0),
    "short, likeliest wrong": World.short(-1.0, 1.5),
    "long, 1 nat": World.long(1.5, 1.0),
    "long, 3 nats": World.long(1.5, 3.0),
}


def covered(world: World, alpha: float, prompts: int, samples: int, times: int, seed: int = 0) -> tuple[int, int]:
    """Return how many simulated evaluations can tell, and how many of those have an interval with the truth in it."""
    rng = np.random.default_rng(seed)
    truth = float(world.truth(alpha).mean())
    told, hits, resampler = 0, 0, Resampler(prompts, 0)
    for _ in range(times):
        found = estimate(world.evaluation(prompts, samples, rng), Objective(alpha=alpha))
        low, high = resampler.mean(found.values[REWARD], UNIT)
        told += found.told
        hits += found.told and low <= truth <= high
    return told, hits


@pytest.mark.parametrize(
    ("name", "alpha", "prompts", "samples"),
    [
        ("short, aligned", 4.0, 32, 32),
        ("short, likeliest wrong", 2.0, 32, 32),
        ("long, 1 nat", 2.0, 32, 32),
        ("long, 3 nats", 1.25, 48, 32),
    ],
)
def test_intervals_cover_the_truth(name: str, alpha: float, prompts: int, samples: int) -> None:
    told, hits = covered(WORLDS[name], alpha, prompts, samples, 150)
    assert told >= 120
    assert hits / told >= 0.93


@pytest.mark.parametrize("alpha", [2.0, 4.0])
def test_what_would_be_wrong_is_not_told(alpha: float) -> None:
    """Long answers: the effective sample size is 3 of 32 and the estimate .1 off; no interval would cover the truth."""
    told, _ = covered(WORLDS["long, 3 nats"], alpha, 32, 32, 40)
    assert told == 0


@pytest.mark.parametrize("name", ["short, aligned", "short, likeliest wrong", "long, 3 nats"])
def test_intervals_of_the_slope_cover_it(name: str) -> None:
    world, rng = WORLDS[name], np.random.default_rng(1)
    truth, hits, resampler = float(world.slopes().mean()), 0, Resampler(48, 0)
    for _ in range(300):
        values = np.array([slope(one) for one in world.evaluation(48, 32, rng)])
        low, high = resampler.mean(values)
        hits += low <= truth <= high
    assert hits / 300 >= 0.92


def test_intervals_of_marks_cover_them_also_where_nearly_all_fail() -> None:
    """Values of 0 and 1: with two ends the interval is Jeffreys's, whose coverage is above .9 for every chance."""
    rng, resampler = np.random.default_rng(2), Resampler(32, 0)
    for chance in (0.02, 0.1, 0.5, 0.95):
        hits = 0
        for _ in range(400):
            low, high = resampler.mean((rng.random(32) < chance).astype(float), UNIT)
            hits += low <= chance <= high
        assert hits / 400 >= 0.93, chance
    assert resampler.mean(np.zeros(32), UNIT)[1] > 0.05
