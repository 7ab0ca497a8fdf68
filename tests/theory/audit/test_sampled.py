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
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, rel_entr

from sharpen.objective import InputError
from sharpen.theory.audit import report
from sharpen.theory.audit.deviance import FEATURES, REWARD, SHARPENING, Split, split, split_points
from sharpen.theory.audit.report import ALL, EVERYTHING, audit_split, verdict
from sharpen.theory.audit.sampled import Pooled, Scored, families, own_exponents
from sharpen.theory.core.intervals import Resampler
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
    for fit in found["fits"].values():
        assert (fit["ess"], fit["ess_least"]) == pytest.approx((2 * SAMPLES, 2 * SAMPLES))


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


def two_kinds(log_pi: tuple[float, float]) -> Pooled:
    """Return a prompt of two outcomes, .6 and .4 under the base, whose policy was drawn as the second one only."""
    log_p = np.log([0.6, 0.4])
    drawn = ([0, 1, 0, 1], [1, 1, 1, 1])
    return Pooled.of(*(Scored.of(log_p[at], np.array(log_pi)[at], [0] * 4, [1] * 4) for at in drawn))


def closest(p: np.ndarray, density: np.ndarray, mean: float) -> tuple[float, float]:
    """Return theta, and the maximum over it, of theta E_pi[log p] - log(sum of p^(1 + theta) / m)."""
    found: Any = minimize_scalar(lambda theta: np.log(np.sum(p ** (1 + theta) / density)) - theta * mean, (-1, 1))
    return float(found.x), -float(found.fun)


def test_own_exponents_by_scipy_and_their_limits() -> None:
    rng = np.random.default_rng(11)
    prompts, alphas, bounds, sizes = [], [], [], []
    for _ in range(5):
        p, pi = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6))
        of_base, of_policy = rng.choice(6, size=7, p=p), rng.choice(6, size=9, p=pi)
        both = (of_base, of_policy)
        prompts.append(Pooled.of(*(Scored.of(np.log(p[x]), np.log(pi[x]), 0 * x, 1 + 0 * x) for x in both)))
        x = np.concatenate(both)
        density = 7 * p[x] + 9 * pi[x]
        weight = pi[x] / density / np.sum(pi[x] / density)
        alphas.append(1 + closest(p[x], density, float(weight @ np.log(p[x])))[0])
        bounds.append(closest(p[x], density, float(np.log(p[of_policy]).mean()))[1])
        sizes.append(1 / np.sum(weight**2))
    own = own_exponents(prompts)
    assert own.alpha == pytest.approx(alphas, abs=1e-6)
    assert own.bound == pytest.approx(bounds, abs=1e-9)
    assert audit_split(prompts)["ess"]["policy"] == pytest.approx(np.median(sizes))
    even = Pooled.of(*(Scored.of([-1.0] * 4, [-1.0] * 4, [0, 1] * 2, [1] * 4) for _ in range(2)))
    limits = own_exponents([two_kinds((-80.0, 0.0)), even, prompts[0]]).alpha
    assert limits[0] == -np.inf  # all on the less likely one
    assert np.isnan(limits[1])  # log p does not vary: it has no exponent, and is no limit
    assert audit_split([two_kinds((-80.0, 0.0)), even, *prompts])["own_alpha"]["limits"] == 1


def test_few_samples_lean_by_a_tenth_of_what_is_taken_away() -> None:
    """All samples that there can be, as often as they are drawn: four of the base and two of the policy, in thirds."""
    p, pi = np.array([2 / 3, 1 / 3]), np.array([1 / 3, 2 / 3])
    prompts: list[Pooled] = []
    for drawn in itertools.product(range(2), repeat=6):
        both = list(drawn[:4]), list(drawn[4:])
        times = round(np.prod(p[both[0]]) * np.prod(pi[both[1]]) * 3**6)
        one = Pooled.of(*(Scored.of(np.log(p[x]), np.log(pi[x]), [0] * len(x), [1] * len(x)) for x in both))
        prompts += [one] * times
    exact = rel_entr(pi, p).sum()  # of two outcomes sharpening explains everything
    plain = split_points([one.points for one in prompts], FEATURES).explained(SHARPENING)
    found = families(prompts)[SHARPENING]
    assert abs(plain - exact) > 0.03
    assert abs(found.explained.mean() + found.optimism - exact) < 0.003


class Chosen(Resampler):
    """Draws once, and gives what that draw gives as both ends: every second prompt counts three times."""

    def function(self, of: Any, columns: FloatArray) -> tuple[float, float]:
        weights = 1.0 + 2.0 * (np.arange(len(columns)) % 2)
        value = float(of((weights @ columns / weights.sum())[None])[0])
        return value, value


def test_a_draw_of_the_report_is_a_new_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "Resampler", Chosen)
    pool = World.of("task").drawn(np.random.default_rng(6), prompts=80, samples=32)
    # In the odd places those in which the reward says most, so that the draw moves theta.
    pull = families(pool)[REWARD].pull[REWARD]
    order = np.argsort(pull)
    prompts = [pool[place] for pair in zip(order[:40], order[40:], strict=True) for place in pair]
    whole, found = families(prompts), audit_split(prompts)
    again = families([one for place, one in enumerate(prompts) for _ in range(1 + 2 * (place % 2))])
    kl = float(np.average([one.points.kl for one in prompts], weights=1.0 + 2.0 * (np.arange(80) % 2)))
    drawn = {name: again[name].explained.mean() + again[name].optimism - one.optimism for name, one in whole.items()}
    for name, row in found["explained"].items():
        wanted = drawn[EVERYTHING if name == ALL else name]
        assert row["low"] == pytest.approx(wanted, abs=0.004), name
        assert found["shares"][name]["low"] == pytest.approx(wanted / kl, abs=0.004 / kl), name
    assert found["rest"]["low"] == pytest.approx(kl - drawn[EVERYTHING], abs=0.004)
    assert found["shares"]["rest"]["low"] == pytest.approx(1 - drawn[EVERYTHING] / kl, abs=0.004 / kl)
    assert sum(row["low"] for row in found["shapley"].values()) == pytest.approx(found["explained"][ALL]["low"])


class Even(Resampler):
    """Draws once, every prompt alike, and gives what that draw gives as both ends."""

    def function(self, of: Any, columns: FloatArray) -> tuple[float, float]:
        value = float(of(columns.mean(axis=0, keepdims=True))[0])
        return value, value


def test_draws_lie_about_the_value_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw moves theta, which adds to what is explained as much as few prompts do; the even draw does not."""
    monkeypatch.setattr(report, "Resampler", Even)
    prompts = World.of("task").drawn(np.random.default_rng(6), prompts=24)
    found, whole = audit_split(prompts)["explained"], families(prompts)
    for name, row in found.items():
        optimism = whole[EVERYTHING if name == ALL else name].optimism
        assert optimism > 1e-5
        assert row["value"] - row["low"] == pytest.approx(optimism, rel=1e-6), name


def test_twice_the_prompts_halve_what_few_prompts_add() -> None:
    """Half of s' H^-1 s over P - 1: the same prompts twice have the same mean over 2 P - 1."""
    prompts = World.of("task").drawn(np.random.default_rng(8), prompts=5)
    once, twice = families(prompts), families(prompts * 2)
    for name, one in once.items():
        assert twice[name].optimism * 9 == pytest.approx(one.optimism * 4, rel=1e-6), name
        s = one.score
        assert one.optimism == pytest.approx(np.trace(np.cov(s.T).reshape(s.shape[1], -1)) / (2 * 5), rel=1e-6)


def test_a_prompt_that_counts_twice_pulls_every_theta() -> None:
    prompts = World.of("mixed").drawn(np.random.default_rng(9), prompts=60)
    whole = families(prompts)
    place = int(np.argmax(np.abs(whole[EVERYTHING].pull[REWARD])))
    again = families([*prompts, prompts[place]])
    for name, one in whole.items():
        for feature, theta in one.theta.items():
            moved = again[name].theta[feature] - theta
            # One Newton step, and what is left of the second order.
            assert moved == pytest.approx(one.pull[feature][place] / 61, rel=0.2, abs=2e-3), (name, feature)


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


def test_intervals_lie_about_what_they_are_of() -> None:
    found = audit_split(World.of("task").drawn(np.random.default_rng(5)))
    for row in (found["kl"], found["rest"], found["alpha"], found["own_alpha"]["at_most"], found["own_alpha"]["share"],
                *found["explained"].values(), *found["shapley"].values(), *found["shares"].values()):  # fmt: skip
        width = row["high"] - row["low"]
        assert width > 0.01
        assert row["low"] + 0.2 * width < row["value"] < row["high"] - 0.2 * width


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.6, 0.8, "explains most of the change"), (0.1, 0.4, "does not explain the change"), (0.4, 0.6, "more or less")],
)
def test_words_about_sharpening_follow_its_interval(low: float, high: float, said: str) -> None:
    row = {"value": 0.5 * (low + high), "low": low, "high": high}
    names = (*FEATURES, ALL, "rest")
    shares = dict.fromkeys(names, row) | {"rest": {"value": 0.3, "low": 0.1, "high": 0.4}}
    fits = {name: {"ess": 9.0} for name in FEATURES}
    found = verdict({"kl": row, "shares": shares, "own_alpha": {"share": row}, "fits": fits})
    assert said in found
    assert "none of the three" not in found
    assert "effective samples" not in found


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
