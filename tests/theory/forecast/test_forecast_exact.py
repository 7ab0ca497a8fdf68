"""The forecast against what it forecasts: the exact optimum of finite problems, and enumeration of all draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.price import pass_at_k_slope, price
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import Problem
from sharpen.theory.forecast.estimate import KL, LENGTH, REWARD, estimate
from sharpen.theory.forecast.report import forecast, tilt_gain
from sharpen.theory.forecast.samples import Samples
from sharpen.theory.forecast.slopes import calibration, pass_slope, slope
from sharpen.theory.forecast.weights import effective_size, pareto_shape, weigh
from sharpen.theory.optima.majority import winner_probabilities
from sharpen.theory.optima.optimum import optimum

SMALL = Problem([0.45, 0.3, 0.15, 0.1], [0, 1, 1, 0], [1, 2, 3, 4])


def drawn(problem: Problem, places: ArrayLike, named: bool = True) -> Samples:
    """Return samples of a problem as the forecast sees them."""
    at = np.asarray(places)
    names = [f"x{place}" for place in at]
    log_p = problem.log_base[at]
    return Samples.of(log_p, problem.reward[at], problem.length[at], answer=names, response=names if named else None)


def every_draw(problem: Problem, n: int) -> list[tuple[float, Samples]]:
    """Return all samples of size n with their probabilities."""
    return [
        (float(np.prod(problem.base[list(places)])), drawn(problem, places))
        for places in itertools.product(range(problem.n), repeat=n)
    ]


def test_the_slopes_have_the_exact_expectation() -> None:
    chances = every_draw(SMALL, 5)
    log_p, r, p = SMALL.log_base, SMALL.reward, SMALL.base
    exact = p @ (r * log_p) - (p @ r) * (p @ log_p)
    assert sum(chance * slope(one) for chance, one in chances) == pytest.approx(exact, abs=1e-12)
    for k in (1, 2, 3, 4):
        found = sum(chance * pass_slope(one, k) for chance, one in chances)
        assert found == pytest.approx(pass_at_k_slope([SMALL], k), abs=1e-12)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(alpha=1),
        Objective(alpha=2),
        Objective(alpha=4),
        Objective(alpha=1.25, beta_inv=1.5),
        Objective(alpha=2, normalization="mean"),
    ],
    ids=lambda one: f"{one.alpha:g} {one.beta_inv:g} {one.normalization}",
)
@pytest.mark.parametrize("named", [True, False], ids=["responses known", "weights only"])
def test_many_samples_give_the_exact_optimum(objective: Objective, named: bool) -> None:
    rng = np.random.default_rng(5)
    prompts = [drawn(SMALL, rng.choice(4, size=20_000, p=SMALL.base), named) for _ in range(2)]
    prompts = [  # votes: outcomes 1 and 2 are one answer
        Samples.of(
            one.logprob, one.reward, one.length, answer=["b" if r else "a" for r in one.reward], response=one.response
        )
        for one in prompts
    ]
    found = estimate(prompts, objective, ks=[3])
    exact = optimum(objective, SMALL).probabilities
    right = float(exact @ SMALL.reward)
    assert found.told
    assert found.values[REWARD].mean() == pytest.approx(right, abs=0.015)
    assert found.values[LENGTH].mean() == pytest.approx(float(exact @ SMALL.length), abs=0.04)
    assert found.values[KL].mean() == pytest.approx(float(exact @ np.log(exact / SMALL.base)), abs=0.015)
    assert found.values["pass@3"].mean() == pytest.approx(1 - (1 - right) ** 3, abs=0.02)
    votes = winner_probabilities([1 - right, right], 3)[1]
    assert found.values["maj@3"].mean() == pytest.approx(votes, abs=0.02)


def test_without_entropy_the_mode_and_the_task_rewards_face_are_found() -> None:
    places = [0, 0, 1, 2, 0, 3, 1, 0, 0, 1]
    prompts = [drawn(SMALL, places)] * 2
    mode = estimate(prompts, Objective(mode="optimization", alpha=1, beta_inv=0))
    assert (mode.values[REWARD] == 0).all()
    assert mode.told  # .45 of the mass: no other can be likelier
    task = estimate(prompts, Objective(mode="optimization", alpha=0, beta_inv=1))
    assert (task.values[REWARD] == 1).all()
    assert task.values[KL][0] == pytest.approx(-math.log(4 / 10))  # p given a right sample, 4 of 10 drawn
    never = estimate([drawn(SMALL, [0, 0, 3])] * 2, Objective(mode="optimization", alpha=0, beta_inv=1))
    assert (never.values[REWARD] == 0).all()


def test_the_jackknife_takes_the_first_bias_away() -> None:
    """Over all draws of n, the corrected estimate's bias is a small part of the plain one's."""
    problem = Problem([0.5, 0.3, 0.2], [0, 1, 1])
    objective = Objective(alpha=1.5)
    exact = float(optimum(objective, problem).probabilities @ problem.reward)
    plain = corrected = 0.0
    for chance, one in every_draw(problem, 7):
        nameless = Samples.of(one.logprob, one.reward)
        how = weigh(nameless, objective)
        plain += chance * float(how.weights @ one.reward)
        corrected += chance * estimate([nameless] * 2, objective).values[REWARD][0]
    assert abs(plain - exact) > 0.006
    assert abs(corrected - exact) < 0.3 * abs(plain - exact)


def test_effective_size_tends_to_its_formula() -> None:
    rng = np.random.default_rng(1)
    one = drawn(SMALL, rng.choice(4, size=200_000, p=SMALL.base), named=False)
    for alpha in (1.5, 2.0, 4.0):
        p = SMALL.base
        share = np.sum(p ** (2 * alpha - 1)) / np.sum(p**alpha) ** 2
        assert one.n / effective_size((alpha - 1) * one.logprob) == pytest.approx(share, rel=0.02)


def test_khat_is_the_shape_of_pareto_weights() -> None:
    rng = np.random.default_rng(2)
    for shape in (0.3, 1.0, 1.7):  # weights u^-shape have a Pareto tail of that shape
        assert pareto_shape(np.asarray(-shape * np.log(rng.random(100_000)))) == pytest.approx(shape, abs=0.3)
    assert pareto_shape(np.zeros(100)) is None
    assert pareto_shape(np.linspace(0.0, 9.0, 10)) is None


def test_what_the_samples_cannot_tell_is_no_number() -> None:
    rng = np.random.default_rng(3)

    def long(spread: float) -> list[Samples]:
        return [Samples.of(-60 + spread * rng.normal(size=64), rng.random(64) < 0.4) for _ in range(20)]

    found = forecast(long(3.0), alphas=[1.25, 4.0])
    rows = {row["alpha"]: row for row in found["curve"]}
    assert rows[1.25]["expected_reward"] is not None
    for name in ("expected_reward", "low", "high", "length", "kl", "gain"):
        assert rows[4.0][name] is None
    assert rows[4.0]["needs"] > 2 * 64
    assert "nothing can be told of alpha = 4" in found["verdict"]
    assert found["curve"][0]["expected_reward"] == pytest.approx(0.4, abs=0.06)


def test_a_greedy_response_that_the_samples_miss_takes_their_word_away() -> None:
    """A response of probability .01 is alone p^4, and 32 samples of a million others do not show it."""
    others = np.full(32, math.log(1e-6))
    without = [Samples.of(others + 0.01 * np.arange(32), np.zeros(32))] * 2
    seen = [Samples.of(one.logprob, one.reward, greedy=math.log(0.01)) for one in without]
    assert estimate(without, Objective(alpha=4)).told
    assert not estimate(seen, Objective(alpha=4)).told
    assert estimate(seen, Objective(alpha=1)).told


def test_responses_that_repeat_are_known_with_their_mass() -> None:
    log_p = [math.log(0.5), math.log(0.5) + 1e-4, math.log(0.2), math.log(0.01)]
    one = Samples.of(log_p, [1, 1, 0, 0], response=["a", "a", "b", "b"])  # "b" has two spellings
    places, unseen = one.different() or (None, None)
    assert places is not None
    assert sorted(np.exp(one.logprob[places]).round(3).tolist()) == [0.01, 0.2, 0.5]
    assert unseen == pytest.approx(0.29, abs=1e-3)
    assert Samples.of([math.log(0.7)] * 2, [1, 0], response=["a", "b"]).different() is None  # more than 1 in all


@given(st.integers(2, 6), st.integers(0, 2**31))
def test_unseen_responses_are_within_what_is_allowed_for(n: int, seed: int) -> None:
    """Where the samples are said to tell by their responses, the unseen have at most 5 % of p^alpha's mass."""
    rng = np.random.default_rng(seed)
    problem = Problem(rng.dirichlet(np.ones(n)), rng.integers(0, 2, n))
    one = drawn(problem, rng.choice(n, size=32, p=problem.base))
    for alpha in (2.0, 4.0):
        how = weigh(one, Objective(alpha=alpha))
        if not how.sampled:
            seen = np.sum(np.exp(alpha * one.logprob[how.places]))
            missed = [place for place in range(n) if f"x{place}" not in (one.response or [])]
            if all(problem.base[place] <= 3 / 32 for place in missed):
                assert seen >= 0.95 * np.sum(problem.base**alpha) - 1e-12


def test_price_and_calibration_tend_to_the_theorys() -> None:
    rng = np.random.default_rng(4)
    prompts = [drawn(SMALL, rng.choice(4, size=20_000, p=SMALL.base)) for _ in range(2)]
    found = forecast(prompts, alphas=[2.0])
    assert found["price"]["value"] == pytest.approx(price(SMALL), abs=0.02)
    curve = calibration(prompts, Resampler(2, 0))
    # By likelihood .1 wrong, .15 and .3 right, .45 wrong: fifths of the mass.
    assert curve["expected_reward"] == pytest.approx([0.5, 1.0, 0.75, 0.0, 0.0], abs=0.03)
    assert curve["turns"] == 1
    above = 0.15 * 0.1 + 0.3 * 0.1  # pairs with the right one likelier
    assert curve["auc"] == pytest.approx(above / (0.45 * 0.55), abs=0.02)


def test_the_price_of_a_small_step_is_the_correlation() -> None:
    """T23 on samples: for a small KL the part of the task reward's gain is Corr(r, log p)."""
    rng = np.random.default_rng(9)
    prompts = [drawn(SMALL, rng.choice(4, size=4000, p=SMALL.base), named=False) for _ in range(2)]
    found = forecast(prompts, alphas=[1.01])
    assert found["curve"][1]["price"] == pytest.approx(found["price"]["value"], abs=0.02)
    # A tilt found by the theory's optimum, at its own KL: the gain is the tilt's own.
    exact = optimum(Objective(alpha=1, beta_inv=0.7), SMALL).probabilities
    budget = float(exact @ np.log(exact / SMALL.base))
    gain = float((exact - SMALL.base) @ SMALL.reward)
    assert tilt_gain(np.array([SMALL.base @ SMALL.reward] * 3), budget) == pytest.approx(gain)
    assert tilt_gain(np.array([0.25, 0.0]), 50.0) == pytest.approx(0.375)


def test_fifths_share_ties_and_borders() -> None:
    one = Samples.of([-1.0] * 7, [1, 1, 0, 0, 0, 0, 0])
    assert calibration([one] * 2, Resampler(2, 0))["expected_reward"] == pytest.approx([2 / 7] * 5)


@pytest.mark.parametrize(
    ("align", "effect"), [(3.0, "raise"), (-3.0, "lower"), (None, "not move")], ids=["raise", "lower", "not move"]
)
def test_the_verdict_says_what_sharpening_does(align: float | None, effect: str) -> None:
    rng = np.random.default_rng(6)
    prompts = []
    for _ in range(60):
        p = rng.dirichlet(np.ones(8))
        at = rng.choice(8, size=64, p=p)
        log_p = np.log(p)
        if align is None:
            right = np.zeros(8)
            right[:2] = 1  # of 8 outcomes, whatever they weigh
            log_p = np.full(8, math.log(1 / 8)) - 1e-3 * np.arange(8)
            at = rng.choice(8, size=64)
        else:
            right = align * (log_p - np.median(log_p)) > 0
        prompts.append(Samples.of(log_p[at], right[at], response=[str(place) for place in at]))
    found = forecast(prompts)
    assert found["effect"] == effect
    word = {"raise": "will raise", "lower": "will lower", "not move": "will not move"}[effect]
    assert word in found["verdict"]
    assert "Task reward can reach" in found["verdict"]


def test_bad_input_is_refused() -> None:
    good = Samples.of([-1.0, -2.0], [1, 0])
    for wrong in (
        lambda: Samples.of([0.5], [1]),
        lambda: Samples.of([-1.0], [2]),
        lambda: Samples.of([-1.0], [1, 0]),
        lambda: Samples.of([], []),
        lambda: forecast([good]),
        lambda: forecast([good] * 2, alphas=[-1.0]),
        lambda: forecast([good] * 2, beta_invs=[0.0]),
        lambda: forecast([good] * 2, ks=[0]),
        lambda: forecast([Samples.of([-1.0], [1])] * 2),
        lambda: pass_slope(good, 2),
        lambda: weigh(good, Objective(reference="policy")),
    ):
        with pytest.raises(InputError):
            wrong()
