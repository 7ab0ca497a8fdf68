"""The split of KL(pi || p): against a general optimiser, Pythagoras, and changes all or nothing of a family."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import rel_entr

from sharpen.objective import InputError
from sharpen.theory.audit.deviance import (
    FEATURES,
    LENGTH,
    REWARD,
    SHARPENING,
    Points,
    Split,
    Stack,
    alone,
    newton,
    shapley_values,
    split,
)
from sharpen.theory.core.problem import Problem


def drawn(seed: int, prompts: int = 3, n: int = 7) -> tuple[list[Problem], list[np.ndarray]]:
    """Return random problems, and policies that no family explains."""
    rng = np.random.default_rng(seed)
    problems, policies = [], []
    for _ in range(prompts):
        reward = rng.permutation([0, 1, *rng.integers(0, 2, n - 2)])
        problem = Problem(rng.dirichlet(np.ones(n)) * 0.98 + 0.02 / n, reward, rng.permutation(np.arange(1, n + 1)))
        tilt = 0.8 * problem.log_base + reward - 0.1 * problem.length + 0.3 * rng.normal(size=n)
        problems.append(problem)
        policies.append(np.exp(problem.log_base + tilt - np.logaddexp.reduce(problem.log_base + tilt)))
    return problems, policies


def columns(problem: Problem, names: tuple[str, ...]) -> np.ndarray:
    """Return the features of a problem."""
    every = {SHARPENING: problem.log_base, REWARD: problem.reward, LENGTH: problem.length}
    return np.stack([every[name] for name in names], axis=1)


def best_by_another_method(problems: list[Problem], policies: list[np.ndarray], names: tuple[str, ...]) -> float:
    """Return min over theta of the mean KL(pi || p_theta), by a method without derivatives."""

    def rest(theta: np.ndarray) -> float:
        total = 0.0
        for problem, policy in zip(problems, policies, strict=True):
            logs = problem.log_base + columns(problem, names) @ theta
            total += float(np.sum(rel_entr(policy, np.exp(logs - np.logaddexp.reduce(logs)))))
        return total / len(problems)

    return float(
        minimize(rest, np.zeros(len(names)), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).fun
    )


def points(problem: Problem, policy: np.ndarray) -> Points:
    """Return a prompt's outcomes with the one feature log p."""
    kl = float(np.sum(rel_entr(policy, problem.base)))
    return Points(problem.log_base, policy, problem.log_base[:, None], kl)


def member(problem: Problem, found: Split, name: str) -> np.ndarray:
    """Return the closest member of a family on one prompt."""
    names = tuple(name.split("+"))
    logs = problem.log_base + columns(problem, names) @ [found.fits[name].theta[one] for one in names]
    return np.exp(logs - np.logaddexp.reduce(logs))


@pytest.mark.parametrize("seed", [0, 1])
def test_every_family_is_fitted_as_well_as_a_general_optimiser_fits_it(seed: int) -> None:
    problems, policies = drawn(seed)
    found = split(problems, policies)
    for size in (1, 2, 3):
        for names in itertools.combinations(FEATURES, size):
            best = best_by_another_method(problems, policies, names)
            assert found.kl - found.explained(*names) == pytest.approx(best, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 20), prompts=st.integers(1, 5))
def test_explained_and_rest_add_up_by_pythagoras(seed: int, n: int, prompts: int) -> None:
    problems, policies = drawn(seed, prompts, n)
    found = split(problems, policies)
    for name, fit in found.fits.items():
        if not fit.attained:
            continue
        members = [member(problem, found, name) for problem in problems]
        to_base = np.mean([np.sum(rel_entr(m, p.base)) for m, p in zip(members, problems, strict=True)])
        to_member = np.mean([np.sum(rel_entr(pi, m)) for pi, m in zip(policies, members, strict=True)])
        assert fit.explained == pytest.approx(to_base, abs=1e-7)
        assert found.kl - fit.explained == pytest.approx(to_member, abs=1e-7)
    assert sum(found.shapley.values()) + found.rest == pytest.approx(found.kl, abs=1e-9)
    assert found.rest >= -1e-9


@pytest.mark.parametrize("alpha", [0.5, 1.5, 3.0])
def test_a_sharpened_policy_is_all_sharpening(alpha: float) -> None:
    problems, _ = drawn(3)
    found = split(problems, [p.base**alpha / np.sum(p.base**alpha) for p in problems])
    assert found.alpha == pytest.approx(alpha, abs=1e-5)
    assert found.explained(SHARPENING) == pytest.approx(found.kl, rel=1e-8)
    assert found.rest == pytest.approx(0, abs=1e-9)


def test_a_reward_tilt_is_all_reward_and_sharpening_cannot_explain_it() -> None:
    # Reward and likelihood are independent under p, so the closest p^alpha is p itself up to what the tilt moves.
    problem = Problem([0.3, 0.3, 0.2, 0.2], [1, 0, 1, 0])
    tilted = problem.base * np.exp(2.0 * problem.reward)
    found = split([problem], [tilted / tilted.sum()])
    assert found.explained(REWARD) == pytest.approx(found.kl, rel=1e-8)
    assert found.explained(SHARPENING) == pytest.approx(0, abs=1e-9)
    assert found.shapley[REWARD] == pytest.approx(found.kl, rel=1e-6)


def test_a_change_that_no_feature_makes_is_all_rest() -> None:
    problem = Problem([0.25] * 4, [1, 1, 0, 0])
    found = split([problem], [np.array([0.4, 0.1, 0.4, 0.1])])
    assert found.rest == pytest.approx(found.kl, rel=1e-9)
    assert found.alpha == 1.0  # likelihood does not vary: nothing to sharpen


def test_a_policy_on_the_mode_is_the_limit_of_sharpening_and_says_so() -> None:
    problems, _ = drawn(5)
    modes = [np.eye(problem.n)[np.argmax(problem.base)] for problem in problems]
    found = split(problems, modes)
    assert not found.fits[SHARPENING].attained
    assert found.alpha is None
    assert found.explained(SHARPENING) == pytest.approx(found.kl, rel=1e-3)


def test_exponents_of_many_prompts_at_once_are_those_of_each_by_itself() -> None:
    problems, policies = drawn(8, prompts=6)
    mode = np.eye(7)[np.argmax(problems[0].base)]  # a limit among others
    even = Problem(np.full(7, 1 / 7), problems[0].reward, problems[0].length)  # and one without an exponent
    problems, policies = [*problems, problems[0], even], [*policies, mode, policies[0]]
    fits = alone([points(problem, policy) for problem, policy in zip(problems, policies, strict=True)])
    assert fits[-1] is None
    for problem, policy, fit in zip(problems[:-1], policies[:-1], fits[:-1], strict=True):
        best = best_by_another_method([problem], [policy], (SHARPENING,))
        by_itself = split([problem], [policy], [SHARPENING])
        assert fit is not None
        assert by_itself.kl - fit.explained == pytest.approx(best, abs=1e-7)
        assert fit.explained == pytest.approx(by_itself.explained(SHARPENING), abs=1e-9)
        assert fit.attained == by_itself.fits[SHARPENING].attained == (policy is not mode)
        if fit.attained:
            assert 1 + fit.theta[SHARPENING] == pytest.approx(by_itself.alpha, abs=1e-7)


@pytest.mark.parametrize("start", [0.0, 6.0])
def test_newton_steps_end_at_minima_or_say_that_they_did_not(start: float) -> None:
    # log cosh(x - c): Newton's full steps diverge from beyond 1.09 of c; a line has no minimum.
    centres = np.array([[0.0], [0.9], [3.0], [0.0]])

    def loss(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = theta - centres
        value, slope, bend = np.log(np.cosh(x)), np.tanh(x), np.cosh(x) ** -2
        value[3], slope[3], bend[3] = theta[3], 1.0, 0.0
        return value[:, 0], slope, bend[:, :, None]

    theta, ended = newton(loss, np.full((4, 1), start))
    assert ended.tolist() == [True, True, True, False]
    assert theta[:3] == pytest.approx(centres[:3], abs=1e-9)


def shortened(apart: int) -> Split:
    """Return the split of p e^(-2 |x|), lengths ``apart`` in one prompt, which set the unit, and 1 in the other."""
    rng = np.random.default_rng(0)
    long = Problem(rng.dirichlet(np.ones(20)), rng.integers(0, 2, 20), 1 + apart * rng.permutation(20))
    short = Problem(np.full(9, 1 / 9), rng.integers(0, 2, 9), np.arange(1, 10))
    policies = [long.base * np.exp(-2.0 * (long.length - 1)), short.base * np.exp(-2.0 * short.length)]
    return split([long, short], [policy / policy.sum() for policy in policies], [LENGTH])


@pytest.mark.parametrize("apart", [1, 10, 100, 1000])
def test_prompts_whose_lengths_differ_a_thousandfold(apart: int) -> None:
    found = shortened(apart)
    assert found.explained(LENGTH) == pytest.approx(found.kl, rel=1e-9)
    assert found.fits[LENGTH].theta[LENGTH] == pytest.approx(-2.0, rel=1e-6)


def test_a_theta_at_the_box_is_not_called_attained() -> None:
    found = shortened(10**9)
    assert found.explained(LENGTH) < 0.9 * found.kl  # which -2 a token would explain
    assert not found.fits[LENGTH].attained


def test_minima_outside_the_box_count_as_limits() -> None:
    centres = np.array([[150.0], [500.0], [-500.0]])

    def parabolas(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return 0.5 * (theta - centres)[:, 0] ** 2, theta - centres, np.ones((3, 1, 1))

    _, ended = newton(parabolas, np.zeros((3, 1)))
    assert ended.tolist() == [True, False, False]


def test_sums_over_prompts_are_a_log_partition_and_its_derivatives() -> None:
    """Of weights that do not sum to 1, as samples have: A(theta) - A(0), centred at the policy's mean."""
    rng, both = np.random.default_rng(2), []
    for n in (3, 5):
        policy = rng.dirichlet(np.ones(n))
        both.append(Points(rng.normal(size=n) - 4.0, policy, rng.normal(size=(n, 2)), 0.0))
    scale, theta = np.array([2.0, 0.5]), np.array([0.7, -0.4])

    def partition(one: Points, at: np.ndarray) -> float:
        f = one.features / scale
        return float(
            np.logaddexp.reduce(one.log_base + f @ at) - np.logaddexp.reduce(one.log_base) - one.policy @ f @ at
        )

    values, slopes, bends = Stack(both, [0, 1], scale).expansion(theta)
    h = 1e-4
    for place, one in enumerate(both):
        assert values[place] == pytest.approx(partition(one, theta), abs=1e-12)
        for i, step in enumerate(h * np.eye(2)):
            sides = partition(one, theta + step), partition(one, theta - step)
            assert slopes[place, i] == pytest.approx((sides[0] - sides[1]) / (2 * h), abs=1e-6)
            for j, other in enumerate(h * np.eye(2)):
                crossed = [
                    partition(one, theta + a * step + b * other) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))
                ]
                bend = (crossed[0] - crossed[1] - crossed[2] + crossed[3]) / (4 * h**2)
                assert bends[place, i, j] == pytest.approx(bend, abs=1e-5)


def test_one_theta_for_all_prompts_cannot_explain_two_exponents() -> None:
    problems, _ = drawn(7, prompts=2)
    policies = [p.base**a / np.sum(p.base**a) for p, a in zip(problems, (0.5, 3.0), strict=True)]
    found = split(problems, policies, [SHARPENING])
    assert found.rest > 0.05 * found.kl


def test_shapley_values_are_means_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    value = {"+".join(s): float(rng.random()) for k in range(1, 4) for s in itertools.combinations(names, k)} | {
        "": 0.0
    }
    expected = dict.fromkeys(names, 0.0)
    for order in itertools.permutations(names):
        for place, name in enumerate(order):
            before = "+".join(sorted(order[:place]))
            expected[name] += (value["+".join(sorted(order[: place + 1]))] - value[before]) / 6
    assert shapley_values(names, value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("policies", "features", "field"),
    [
        ([], FEATURES, "policies"),
        ([np.array([0.5, 0.6, 0.1])], FEATURES, "policies"),
        ([np.array([0.0, 0.5, 0.5])], FEATURES, "policies"),
        ([np.array([0.5, 0.5, 0.0])], ["style"], "features"),
        ([np.array([0.5, 0.5, 0.0])], [], "features"),
    ],
)
def test_bad_input_is_named(policies: list[np.ndarray], features: list[str], field: str) -> None:
    problem = Problem([0.5, 0.5, 0.0], [1, 0, 0])
    with pytest.raises(InputError) as error:
        split([problem], policies, features)
    assert error.value.field == field
