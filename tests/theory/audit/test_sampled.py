"""The split from samples of both models: against full enumeration, the exact split, and itself; coverage by simulation.

The truth of a simulated audit is the exact split over all prompts of a world, by `theory.audit.deviance`, which has its
own oracles.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, rel_entr

from sharpen.objective import InputError
from sharpen.theory.audit.deviance import FEATURES, REWARD, SHARPENING, Split, split
from sharpen.theory.audit.report import ALL, EVERYTHING, audit_split
from sharpen.theory.audit.sampled import Pooled, Scored, families, own_exponents
from sharpen.theory.core.problem import FloatArray, Problem

PROMPTS, SAMPLES = 32, 16


def normalised(logs: FloatArray) -> FloatArray:
    total: Any = logsumexp(logs, axis=-1, keepdims=True)
    return logs - total


@dataclass
class World:
    """Prompts with all that is known of them, shape [prompts, outcomes] each."""

    log_p: FloatArray
    log_pi: FloatArray
    reward: FloatArray
    length: FloatArray

    @classmethod
    def of(cls, kind: str, outcomes: int = 40, spread: float = 1.5, prompts: int = 300) -> World:
        """Return a world in which training did what ``kind`` says."""
        rng = np.random.default_rng(4)
        shape = (prompts, outcomes)
        log_p = normalised(spread * rng.normal(size=shape))
        reward = (rng.random(shape) < 1 / (1 + np.exp(1 - rng.normal(size=(prompts, 1))))).astype(float)
        length, noise = rng.integers(1, 12, size=shape).astype(float), rng.normal(size=shape)
        tilt = {
            "nothing": 0 * log_p,
            "sharpening": log_p,
            "task": 2 * reward - 0.15 * length + 0.4 * noise,
            "mixed": 0.6 * log_p + reward + 0.5 * noise,
            "other": 1.2 * noise,
        }[kind]
        return cls(log_p, normalised(log_p + tilt), reward, length)

    def truth(self) -> Split:
        problems = [Problem(np.exp(a), r, n) for a, r, n in zip(self.log_p, self.reward, self.length, strict=True)]
        return split(problems, list(np.exp(self.log_pi)))

    def drawn(self, rng: np.random.Generator, prompts: int = PROMPTS, samples: int = SAMPLES) -> list[Pooled]:
        """Return an audit's samples of prompts that are drawn too."""
        return [self.pooled(place, rng, samples) for place in rng.integers(0, len(self.log_p), prompts)]

    def pooled(self, place: int, rng: np.random.Generator, samples: int) -> Pooled:
        both = []
        for logs in (self.log_p, self.log_pi):
            p = np.exp(logs[place])
            at = rng.choice(p.size, size=samples, p=p / p.sum())
            columns = (each[place, at] for each in (self.log_p, self.log_pi, self.reward, self.length))
            both.append(Scored.of(*columns))
        return Pooled.of(*both)


def test_kl_is_unbiased_over_all_samples_that_there_can_be() -> None:
    p, pi = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    mean = 0.0
    for drawn in itertools.product(range(3), repeat=5):
        b, q = list(drawn[:3]), list(drawn[3:])  # three of the base, two of the policy
        chance = np.prod(p[b]) * np.prod(pi[q])
        pooled = Pooled.of(*(Scored.of(np.log(p[at]), np.log(pi[at]), [0] * len(at), [1] * len(at)) for at in (b, q)))
        assert pooled.points.kl >= 0
        mean += chance * pooled.points.kl
    assert mean == pytest.approx(rel_entr(pi, p).sum(), abs=1e-12)


@pytest.mark.parametrize("kind", ["task", "mixed"])
def test_many_samples_of_every_prompt_give_the_exact_split(kind: str) -> None:
    world, rng = World.of(kind, outcomes=8, prompts=6), np.random.default_rng(0)
    exact = world.truth()
    found = families([world.pooled(place, rng, 10_000) for place in range(6)])
    for name, one in found.items():
        # What few prompts add is taken away from each; here the six are all that there are.
        assert one.explained.mean() + one.optimism == pytest.approx(exact.fits[name].explained, abs=0.01 * exact.kl)
        assert one.theta == pytest.approx(exact.fits[name].theta, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "outcomes", "spread"), [("task", 40, 1.5), ("sharpening", 40, 1.5), ("mixed", 800, 3.0)]
)
def test_intervals_cover_the_exact_split(kind: str, outcomes: int, spread: float) -> None:
    world, rng, times = World.of(kind, outcomes, spread), np.random.default_rng(1), 45
    exact = world.truth()
    truth = {"kl": exact.kl, "rest": exact.rest} | {name: fit.explained for name, fit in exact.fits.items()}
    truth |= {f"shapley {name}": value for name, value in exact.shapley.items()}
    truth |= {f"share {name}": exact.explained(name) / exact.kl for name in FEATURES}
    hits, sums = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0.0)
    for _ in range(times):
        found = audit_split(world.drawn(rng))
        rows = {"kl": found["kl"], "rest": found["rest"], EVERYTHING: found["explained"].pop(ALL)} | found["explained"]
        rows |= {f"shapley {name}": row for name, row in found["shapley"].items()}
        rows |= {f"share {name}": found["shares"][name] for name in FEATURES}
        for name, value in truth.items():
            hits[name] += rows[name]["low"] - 1e-9 <= value <= rows[name]["high"] + 1e-9
            sums[name] += rows[name]["value"] / times
    assert {name: count for name, count in hits.items() if count / times < 0.85} == {}
    assert np.mean(list(hits.values())) / times >= 0.93
    for name in ("kl", "rest", *exact.fits):
        assert sums[name] == pytest.approx(truth[name], abs=0.04 * exact.kl), name


def test_the_base_against_itself_is_no_change() -> None:
    found = audit_split(World.of("nothing").drawn(np.random.default_rng(2)))
    for row in (found["kl"], found["rest"], *found["explained"].values(), *found["shapley"].values()):
        assert row == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert set(found["shares"].values()) == {None}
    assert "hardly differ" in found["verdict"]
    assert found["alpha"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["ess"] == pytest.approx({"base": 2 * SAMPLES, "policy": 2 * SAMPLES})


def test_a_pure_sharpening_has_its_exponent_and_no_rest() -> None:
    found = audit_split(World.of("sharpening").drawn(np.random.default_rng(3)))
    assert found["alpha"]["value"] == pytest.approx(2, abs=1e-4)
    assert found["shares"][SHARPENING]["value"] == pytest.approx(1, abs=0.05)
    assert found["rest"]["low"] <= 0 <= found["rest"]["high"]
    assert found["own_alpha"]["quartiles"] == pytest.approx([2, 2, 2], abs=1e-4)
    assert "explains most of the change" in found["verdict"]


def test_an_exponent_a_prompt_is_bounded_from_above() -> None:
    world, rng = World.of("mixed", prompts=60), np.random.default_rng(7)
    exact = [
        split([Problem(np.exp(a), r, n)], [np.exp(b)], [SHARPENING]).explained(SHARPENING)
        for a, b, r, n in zip(world.log_p, world.log_pi, world.reward, world.length, strict=True)
    ]

    def bound(samples: int) -> float:
        return own_exponents([world.pooled(place, rng, samples) for place in range(60)]).bound.mean()

    few = np.mean([bound(8) for _ in range(12)])
    assert np.mean(exact) + 0.01 < few < np.mean(exact) + 0.08
    assert bound(1000) == pytest.approx(np.mean(exact), abs=0.01)


def test_families_that_cannot_explain_a_change_say_so() -> None:
    found = audit_split(World.of("other").drawn(np.random.default_rng(5)))
    assert found["shares"]["rest"]["low"] > 0.8
    assert "Sharpening does not explain the change" in found["verdict"]
    assert "none of the three" in found["verdict"]


def test_intervals_of_one_newton_step_are_those_of_new_fits() -> None:
    rng = np.random.default_rng(6)
    prompts = World.of("task").drawn(rng, prompts=40, samples=32)
    whole = families(prompts)
    for _ in range(5):
        chosen = rng.integers(0, 40, 40)
        again = families([prompts[place] for place in chosen])
        for name in (SHARPENING, REWARD, EVERYTHING):
            one = whole[name]
            step = 0.5 * np.sum(one.score[chosen].mean(axis=0) ** 2)
            optimism = 0.5 * np.sum(one.score**2, axis=1) / 39
            stepped = (one.explained + optimism)[chosen].mean() + step
            refitted = again[name].explained.mean() + again[name].optimism
            assert stepped == pytest.approx(refitted, abs=0.006), name
        moved = 1 + whole[SHARPENING].theta[SHARPENING] + whole[SHARPENING].pull[SHARPENING][chosen].mean()
        assert moved == pytest.approx(1 + again[SHARPENING].theta[SHARPENING], abs=0.02)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n_p=st.integers(2, 9), n_pi=st.integers(2, 9), times=st.integers(2, 4))
def test_samples_that_repeat_change_no_weight(seed: int, n_p: int, n_pi: int, times: int) -> None:
    rng = np.random.default_rng(seed)

    def samples(n: int) -> list[FloatArray]:
        return [-rng.exponential(5, n), -rng.exponential(5, n), rng.random(n), rng.integers(1, 9, n).astype(float)]

    base, policy = samples(n_p), samples(n_pi)
    once = Pooled.of(Scored.of(*base), Scored.of(*policy)).points
    often = Pooled.of(*(Scored.of(*(np.repeat(c, times) for c in each)) for each in (base, policy))).points
    assert often.kl == pytest.approx(once.kl, rel=1e-9, abs=1e-12)
    means = [one.policy @ one.features for one in (once, often)]
    assert means[1] == pytest.approx(means[0])


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        (([-1.0], [-1.0], [0], [1]), "samples"),
        (([-1.0, -2.0], [-1.0], [0, 1], [1, 1]), "policy"),
        (([-1.0, -np.inf], [-1.0, -2.0], [0, 1], [1, 1]), "base"),
        (([-1.0, -2.0], [-1.0, -2.0], [0, np.nan], [1, 1]), "reward"),
    ],
)
def test_bad_samples_are_refused_by_name(columns: tuple[list[float], ...], field: str) -> None:
    with pytest.raises(InputError) as error:
        Scored.of(*columns)
    assert error.value.field == field


def test_one_prompt_has_no_interval() -> None:
    world = World.of("task", prompts=1)
    with pytest.raises(InputError, match="problems"):
        audit_split([world.pooled(0, np.random.default_rng(0), 8)])
