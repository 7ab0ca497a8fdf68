"""The forecast against what it forecasts: the exact optimum of finite problems, and enumeration of all draws."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import norm, ttest_1samp

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.price import pass_at_k_slope, price
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import Problem
from sharpen.theory.forecast.estimate import KL, LENGTH, REWARD, estimate
from sharpen.theory.forecast.report import forecast, tilt_gain, verdict
from sharpen.theory.forecast.samples import Samples
from sharpen.theory.forecast.slopes import calibration, pass_slope, slope, slopes
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


def test_few_samples_have_their_own_correlation_and_order() -> None:
    drawn_twice = [
        Samples.of([-1.0, -2.0, -4.0, -3.0], [1, 0, 1, 0]),
        Samples.of([-5.0, -1.0, -2.0, -9.0], [1, 1, 0, 0]),
    ]
    both = [np.cov(one.reward, one.logprob) for one in drawn_twice]
    pooled = np.mean(both, axis=0)
    found = slopes(drawn_twice, [], Resampler(2, 0))
    assert found["price"]["value"] == pytest.approx(pooled[0, 1] / math.sqrt(pooled[0, 0] * pooled[1, 1]))
    # Right ones are likelier in 1 of the first's pairs and in 3 of the second's, of 4 each.
    curve = calibration(drawn_twice, Resampler(2, 0))
    assert curve["auc"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert calibration([Samples.of([-1.0, -1.0], [1, 0])] * 2, Resampler(2, 0))["auc"] == 0.5


def test_steps_below_two_percent_are_no_turns() -> None:
    one = Samples.of([-5.0, -4.0, -3.0, -2.0, -1.0], [0.5, 0.51, 0.5, 0.9, 0.1])
    assert calibration([one] * 2, Resampler(2, 0))["turns"] == 1


def test_coverage_falls_from_the_first_k_whose_slope_is_negative() -> None:
    """Many right samples, the likelier; beside few right ones, the less likely: they weigh more as k grows."""
    often = Samples.of([-1.0, -1.1, -1.2, -1.3, -3.0, -4.0], [1, 1, 1, 1, 0, 0])
    seldom = [Samples.of([-1.0, -1.1, -1.2, -1.3, -1.4, x], [0, 0, 0, 0, 0, 1]) for x in (-2.0, -3.0, -1.5, -1.25) * 4]
    found = slopes([often] * 8 + seldom, [1, 2, 3, 4, 5], Resampler(24, 0))
    rows = found["pass_slopes"]
    values, highs = ([row[name] for row in rows] for name in ("value", "high"))
    assert values[0] > 0 > values[-1]
    assert found["crossover"] == 1 + next(place for place, value in enumerate(values) if value < 0)
    assert found["crossover_certain"] == 1 + next(place for place, high in enumerate(highs) if high < 0)
    assert found["crossover"] < found["crossover_certain"]


def weighing(counting: int, samples: int = 100) -> Samples:
    """Return samples of which so many count under p^2, each alike: their effective size."""
    return Samples.of(np.where(np.arange(samples) < counting, -10.0, -80.0), np.arange(samples) % 2)


def test_needs_are_what_nine_tenths_of_the_prompts_need_in_two_digits() -> None:
    found = estimate([weighing(one) for one in (1, 2, 2, 2, *(8,) * 7)], Objective(alpha=2))
    assert (found.told, found.untold) == (False, pytest.approx(4 / 11))
    assert found.ess == pytest.approx((1 + 3 * 2 + 7 * 8) / 11)
    assert found.needs == 400  # 100 * 8 / 2 samples; one prompt of eleven needs 800
    assert estimate([weighing(7)] * 2, Objective(alpha=2)).needs == 120  # 114.3 upwards
    one = weigh(weighing(1), Objective(alpha=2))
    assert (one.told, one.needs) == (False, pytest.approx(800))


def test_heavy_tails_take_the_word_away_if_any_prompt_cannot_tell() -> None:
    tail = np.sort(-0.9 * np.log((np.arange(400) + 0.5) / 400))  # weights of a Pareto law of shape .9
    heavy = [Samples.of(tail - 50.0, np.arange(400) % 2)] * 19
    told, untold = (estimate([*heavy, last], Objective(alpha=2)) for last in (heavy[0], weighing(1, 400)))
    assert told.khat is not None
    assert told.khat > 0.7
    assert (told.told, told.untold) == (True, 0.0)
    assert (untold.told, untold.untold, untold.needs) == (False, 0.05, 800)


@pytest.mark.parametrize(("second", "stands"), [(0.32, True), (0.31, True), (0.28, False)])
def test_different_responses_stand_for_all_while_few_are_unseen(second: float, stands: bool) -> None:
    """Unseen M = 1/2 - second, each of them at most 3/32: M (3/32) beside 1/4 + second^2 at alpha = 2."""
    unseen = (0.5 - second) * 3 / 32
    assert (unseen / (0.25 + second**2 + unseen) <= 0.05) is stands
    one = Samples.of(np.log([0.5] * 16 + [second] * 16), [1] * 16 + [0] * 16, response=["a"] * 16 + ["b"] * 16)
    assert weigh(one, Objective(alpha=2)).sampled is not stands


def test_below_alpha_one_the_unseen_have_no_bound() -> None:
    """A hundredth that was not seen may be any number of responses, whose p^alpha sum to any number."""
    one = Samples.of(np.log([0.5] * 16 + [0.49] * 16), [1] * 16 + [0] * 16, response=["a"] * 16 + ["b"] * 16)
    assert weigh(one, Objective(alpha=0.9)).sampled
    assert not weigh(one, Objective(alpha=1.1)).sampled


def test_a_greedy_response_counts_by_its_own_power() -> None:
    """Samples of p = .001 give all of p^2 the mass .001; a response of .05 alone has 2.5 times as much."""
    log_p = math.log(0.001) - 1e-6 * np.arange(32)
    told = [weigh(Samples.of(log_p, np.zeros(32), greedy=math.log(g)), Objective(alpha=2)).told for g in (0.04, 0.05)]
    assert told == [True, False]


def test_what_can_be_told_of_a_power_can_be_told_of_its_tilts() -> None:
    one = Samples.of(-60.0 - 0.01 * np.arange(64), (np.arange(64) == 5).astype(float))
    how = weigh(one, Objective(alpha=1.25, beta_inv=20.0))
    assert how.told
    assert how.ess == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("first", "second", "told"), [(0.2, 0.19, False), (0.2, 0.7, True), (0.4, 0.1, True)])
def test_a_mode_is_told_if_what_was_not_seen_cannot_be_likelier(first: float, second: float, told: bool) -> None:
    """Of ten samples: the unseen are all of 1 - first - second, or at most .3 each."""
    one = Samples.of(np.log([first] * 5 + [second] * 5), np.zeros(10), response=["a"] * 5 + ["b"] * 5)
    assert weigh(one, Objective(mode="optimization", alpha=1, beta_inv=0)).told is told
    per_token = Objective(mode="optimization", alpha=1, beta_inv=0, normalization="mean")
    assert not weigh(one, per_token).told


def test_marks_votes_and_lengths_are_read_as_they_are() -> None:
    one = Samples.of(
        [-9.0] * 4, [0.5, 0.5, 0.0, 0.2], [7] * 4, [True, True, False, False], answer=["a", "a", None, "b"]
    )
    found = estimate([one] * 2, Objective(alpha=1), ks=[1])
    assert found.values[REWARD] == pytest.approx([0.3] * 2)
    assert found.values["pass@1"] == pytest.approx([0.5] * 2)
    assert found.values["maj@1"] == pytest.approx([0.5] * 2)  # a sample without an answer is a vote lost
    row = found.row(Resampler(2, 0))
    assert [row["length_low"], row["length_high"]] == pytest.approx([7.0, 7.0])
    _, good = Samples.of([-9.0] * 2, [1, 0], answer=[None, "a"]).classes()
    assert good.tolist() == [False]
    more_than_one = Samples.of(np.log([0.6, 0.405]), [1, 0], response=["a", "b"]).different()
    assert more_than_one is not None
    assert more_than_one[1] == 0.0  # log p was rounded


def test_a_tilt_spends_its_budget_on_prompts_with_both_kinds() -> None:
    assert tilt_gain(np.array([0.5, 0.0]), 0.1) == pytest.approx(tilt_gain(np.array([0.5]), 0.2) / 2)


def seen(alpha: float, gain: float, low: float, high: float, sure: bool) -> dict[str, Any]:
    return {"alpha": alpha, "expected_reward": 0.5 + gain, "low": 0.4, "high": 0.7} | {
        "gain": gain, "gain_low": low, "gain_high": high, "sure": sure
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "effect", "words"),
    [
        ([seen(2.0, 0.1, 0.05, 0.2, True)], "raise", "from 0.50 to 0.60"),
        ([seen(2.0, 0.01, 0.005, 0.02, True)], "not move", "stays within 0.05"),
        ([seen(2.0, 0.1, 0.01, 0.2, False)], "cannot be told", "cannot be told"),
        ([seen(2.0, 0.01, -0.01, 0.2, False)], "cannot be told", "cannot be told"),
        ([seen(2.0, -0.01, -0.2, 0.01, False)], "cannot be told", "cannot be told"),
        ([seen(1.5, 0.1, 0.05, 0.2, True), seen(4.0, -0.3, -0.4, -0.2, True)], "raise", "lowers it from alpha = 4"),
        ([seen(1.5, 0.1, 0.05, 0.2, True), seen(4.0, 0.05, 0.01, 0.1, True)], "raise", "at alpha = 1.5. Task"),
        ([seen(1.5, -0.1, -0.2, -0.05, True), seen(4.0, -0.3, -0.4, -0.2, True)], "lower", "at alpha = 4"),
    ],
)
def test_verdicts_from_gains(rows: list[dict[str, Any]], effect: str, words: str) -> None:
    start = {"alpha": 1.0, "expected_reward": 0.5, "low": 0.4, "high": 0.6}
    task = {"value": 1.0, "low": 0.9, "high": 1.0}
    found = verdict({"curve": [start, *rows], "task_reward": task, "samples": 8})
    assert found[0] == effect
    assert words in found[1]


def test_what_was_measured_is_compared_prompt_by_prompt() -> None:
    """Gains whose 95 % interval lies above 0 and whose 99 % interval does not: no verdict rests on them."""
    rng = np.random.default_rng(3)
    prompts = [Samples.of(-60 + 4 * rng.normal(size=16), np.arange(16) < count) for count in range(2, 12)]
    base = np.array([one.reward.mean() for one in prompts])
    gains = 0.1 * norm.ppf((np.arange(10) + 0.5) / 10)
    gains += np.mean([np.ptp(ttest_1samp(gains, 0.0).confidence_interval(level)) / 2 for level in (0.95, 0.99)])
    found = forecast(prompts, alphas=[8.0], known={8.0: base + gains})
    row = found["curve"][1]
    assert row["measured"]
    assert row["gain"] == pytest.approx(gains.mean())
    assert 0 < row["gain_low"] < row["gain"] < row["gain_high"] < 0.3
    assert not row["sure"]
    assert found["effect"] == "cannot be told"
    assert forecast(prompts, alphas=[8.0], known={8.0: base + gains + 0.1})["effect"] == "raise"


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
