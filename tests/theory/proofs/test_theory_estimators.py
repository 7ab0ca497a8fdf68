"""Gradient estimators against exact rationals, autodiff of losses, simulation and published numbers."""

from __future__ import annotations

import itertools
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.problem import Problem
from sharpen.theory.estimators import claims as estimator_claims
from sharpen.theory.estimators import exact as estimators
from sharpen.theory.estimators.claims import claims
from sharpen.theory.estimators.exact import ADVANTAGES, AGGREGATIONS, KL_TERMS, PLACEMENTS, setting

DOCS = Path(__file__).parents[3] / "docs" / "theory-estimators.md"
TASK = preset("task-reward")
PROBLEM = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.25], [2, 5, 3])
POLICY = np.array([0.3, 0.5, 0.2])


# Rational arithmetic: every ordered group, one after the other.


def rational_weights(name: str, rewards: list[Fraction]) -> list[Fraction]:
    g, total = len(rewards), sum(rewards, Fraction(0))
    return {
        "reinforce": rewards,
        "mean-baseline": [r - total / g for r in rewards],
        "rloo": [r - (total - r) / (g - 1) for r in rewards],
    }[name]


def rational_factor(name: str, lengths: list[int], i: int) -> Fraction:
    return {
        "sequence-sum": Fraction(1, len(lengths)),
        "sequence-mean": Fraction(1, len(lengths) * lengths[i]),
        "token-mean": Fraction(1, sum(lengths)),
    }[name]


def rational_moments(name: str, how: str, group: int) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Return E[g] and E[g g^T] of PROBLEM and POLICY, exactly."""
    pi, reward, length = (
        [Fraction(3, 10), Fraction(1, 2), Fraction(1, 5)],
        [Fraction(0), Fraction(1), Fraction(1, 4)],
        [2, 5, 3],
    )
    first = [Fraction(0)] * 3
    second = [[Fraction(0)] * 3 for _ in range(3)]
    for drawn in itertools.product(range(3), repeat=group):
        probability = math.prod((pi[x] for x in drawn), start=Fraction(1))
        advantage = rational_weights(name, [reward[x] for x in drawn])
        lengths = [length[x] for x in drawn]
        g = [
            sum(
                advantage[i] * rational_factor(how, lengths, i) * ((1 if drawn[i] == c else 0) - pi[c])
                for i in range(group)
            )
            for c in range(3)
        ]
        for a in range(3):
            first[a] += probability * g[a]
            for b in range(3):
                second[a][b] += probability * g[a] * g[b]
    return first, second


@pytest.mark.parametrize("name", ["reinforce", "mean-baseline", "rloo"])
@pytest.mark.parametrize("how", AGGREGATIONS)
@pytest.mark.parametrize("group", [2, 4])
def test_moments_are_the_rational_ones(name: str, how: str, group: int) -> None:
    found = estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, group), name, how)
    first, second = rational_moments(name, how, group)
    np.testing.assert_allclose(found.expectation, [float(x) for x in first], atol=1e-15)
    covariance = [[float(second[a][b] - first[a] * first[b]) for b in range(3)] for a in range(3)]
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-15)


@pytest.mark.parametrize("group", [2, 3, 5])
def test_rloo_is_exactly_unbiased_in_rationals(group: int) -> None:
    pi, reward = [Fraction(3, 10), Fraction(1, 2), Fraction(1, 5)], [Fraction(0), Fraction(1), Fraction(1, 4)]
    mean = sum(p * r for p, r in zip(pi, reward, strict=True))
    gradient = [p * (r - mean) for p, r in zip(pi, reward, strict=True)]
    assert rational_moments("rloo", "sequence-sum", group)[0] == gradient
    shrunk = [(1 - Fraction(1, group)) * x for x in gradient]
    assert rational_moments("mean-baseline", "sequence-sum", group)[0] == shrunk
    found = estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, group), "rloo")
    np.testing.assert_allclose(found.target, [float(x) for x in gradient], atol=1e-15)
    assert found.unbiased


# Automatic differentiation of the loss of every ordered group.


def term_of(name: str, log_pi: Any, log_p: Any) -> Any:
    ratio = log_p - log_pi
    return {"k1": -ratio, "k2": ratio**2 / 2, "k3": jnp.exp(ratio) - 1 - ratio}[name]


def surrogate(theta: Any, drawn: Any, name: str, how: str, pseudo: Any) -> Any:
    """Return the loss (to be differentiated) of one group; its gradient is the estimator."""
    log_pi = jax.nn.log_softmax(theta)[drawn]
    log_p = jnp.log(PROBLEM.base)[drawn]
    if name in KL_TERMS:
        k = term_of(name, log_pi, log_p)
        return jnp.mean(k if how == "loss" else jax.lax.stop_gradient(k) * log_pi)
    reward, length = pseudo[drawn], jnp.asarray(PROBLEM.length)[drawn]
    g = drawn.shape[0]
    if name == "reinforce":
        advantage = reward
    elif name == "rloo":
        advantage = (reward - reward.mean()) * g / (g - 1)
    else:
        deviation = jnp.std(reward, ddof=1)
        scale = jnp.where(deviation > 1e-9, deviation, 1.0) if name == "grpo" else 1.0
        advantage = (reward - reward.mean()) / scale
    per_token = jax.lax.stop_gradient(advantage) * log_pi / length  # the tokens of a sequence share its gradient
    if how == "sequence-sum":
        return jnp.mean(per_token * length)
    return jnp.mean(per_token) if how == "sequence-mean" else jnp.sum(per_token * length) / jnp.sum(length)


CASES = [(k, place) for k in KL_TERMS for place in PLACEMENTS] + [(a, how) for a in ADVANTAGES for how in AGGREGATIONS]


@pytest.mark.parametrize(("name", "how"), CASES)
@pytest.mark.parametrize("objective", [TASK, Objective(alpha=2.0, beta_inv=3.0, normalization="mean")])
def test_autodiff_of_every_group(name: str, how: str, objective: Objective) -> None:
    group = 3
    with jax.enable_x64():
        theta = jnp.log(jnp.asarray(POLICY))
        ratio = np.log(PROBLEM.base) - np.log(POLICY)
        pseudo = PROBLEM.reward.copy()
        if objective != TASK:
            pseudo = PROBLEM.reward + np.log(PROBLEM.base) / PROBLEM.length / 3 + ratio / 3
        drawn = jnp.asarray(list(itertools.product(range(3), repeat=group)))
        gradients = jax.vmap(lambda x: jax.grad(surrogate)(theta, x, name, how, jnp.asarray(pseudo)))(drawn)
        gradients = np.asarray(gradients)
    probability = np.prod(POLICY[np.asarray(drawn)], axis=1)
    mean = probability @ gradients
    given_setting = setting(objective, PROBLEM, POLICY, group)
    if name in KL_TERMS:
        found = estimators.kl_estimate(given_setting, name, how)
    else:
        found = estimators.policy_gradient_estimate(given_setting, name, how)
    np.testing.assert_allclose(found.expectation, mean, atol=1e-14)
    centred = gradients - mean
    np.testing.assert_allclose(found.covariance, (centred * probability[:, None]).T @ centred, atol=1e-14)
    np.testing.assert_allclose(found.variance, probability @ np.sum(centred**2, axis=1), rtol=1e-10)


def test_targets_are_autodiff_of_the_objective_and_of_the_kl() -> None:
    objective = Objective(alpha=2.0, beta_inv=3.0, normalization="mean")
    given_setting = setting(objective, PROBLEM, POLICY, 2)
    with jax.enable_x64():
        theta = jnp.log(jnp.asarray(POLICY))
        log_p = jnp.log(jnp.asarray(PROBLEM.base))

        def value(theta: Any) -> Any:
            log_pi = jax.nn.log_softmax(theta)
            u = jnp.asarray(PROBLEM.reward) + log_p / jnp.asarray(PROBLEM.length) / 3
            return jnp.sum(jnp.exp(log_pi) * (u + (log_p - log_pi) / 3))

        def reverse(theta: Any) -> Any:
            log_pi = jax.nn.log_softmax(theta)
            return jnp.sum(jnp.exp(log_pi) * (log_pi - log_p))

        def forward(theta: Any) -> Any:
            return jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(theta)))

        expected = [np.asarray(jax.grad(f)(theta)) for f in (value, reverse, forward)]
    rloo = estimators.policy_gradient_estimate(given_setting, "rloo")
    np.testing.assert_allclose(rloo.target, expected[0], atol=1e-14)
    np.testing.assert_allclose(estimators.kl_gradient(PROBLEM, POLICY), expected[1], atol=1e-14)
    np.testing.assert_allclose(estimators.forward_kl_gradient(PROBLEM, POLICY), expected[2], atol=1e-14)
    k3 = estimators.kl_estimate(given_setting, "k3", "reward")
    np.testing.assert_allclose(k3.expectation, expected[1] - expected[2], atol=1e-14)
    assert rloo.unbiased


def test_monte_carlo_agrees_within_standard_errors() -> None:
    rng = np.random.default_rng(1)
    group, runs = 4, 40_000
    drawn = rng.choice(3, size=(runs, group), p=POLICY)
    reward, length = PROBLEM.reward[drawn], PROBLEM.length[drawn]
    deviation = reward.std(axis=1, ddof=1, keepdims=True)
    advantage = np.divide(reward - reward.mean(axis=1, keepdims=True), deviation, where=deviation > 0, out=0 * reward)
    weight = advantage / length.sum(axis=1, keepdims=True)
    gradients = np.einsum("rg,rgc->rc", weight, np.eye(3)[drawn] - POLICY)
    found = estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, group), "grpo", "token-mean")
    error = gradients.std(axis=0) / math.sqrt(runs)
    assert np.all(np.abs(gradients.mean(axis=0) - found.expectation) < 4.5 * error)
    np.testing.assert_allclose(np.trace(np.cov(gradients.T)), found.variance, rtol=0.03)


# Laws.


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(2, 6))
def test_what_is_unbiased_for_every_problem(kit: SimpleNamespace, data: st.DataObject, group: int) -> None:
    problem = data.draw(kit.problems(most=4))
    objective = data.draw(kit.objectives())
    given_setting = setting(objective, problem, data.draw(kit.policies(problem.n)), group)
    assert estimators.policy_gradient_estimate(given_setting, "rloo").unbiased
    assert estimators.policy_gradient_estimate(given_setting, "reinforce").unbiased
    assert estimators.kl_estimate(given_setting, "k1", "reward").unbiased
    assert estimators.kl_estimate(given_setting, "k2", "loss").unbiased
    assert estimators.kl_estimate(given_setting, "k1", "loss").is_zero
    assert all(claim.confirmed is not False for claim in claims(given_setting)[:10])
    for estimate in estimators.estimates(given_setting):
        assert np.all(np.linalg.eigvalsh(estimate.covariance) >= -1e-12 * (1 + estimate.variance))
        np.testing.assert_allclose(estimate.expectation.sum(), 0.0, atol=1e-9 * (1 + np.sqrt(estimate.variance)))


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(2, 6))
def test_one_right_and_wrong_reward_leaves_grpo_its_direction(
    kit: SimpleNamespace, data: st.DataObject, group: int
) -> None:
    policy = data.draw(kit.policies(4))
    problem = Problem([0.4, 0.3, 0.2, 0.1], [0, 1, 0, 1])
    grpo = estimators.policy_gradient_estimate(setting(TASK, problem, policy, group), "grpo")
    assert grpo.proportional


def test_three_reward_levels_turn_grpo() -> None:
    grpo = estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, 4), "grpo")
    assert not grpo.unbiased
    assert not grpo.proportional
    assert grpo.cosine is not None
    assert grpo.cosine < 1 - 1e-6


@pytest.mark.parametrize("excess", [1e-5, 1e-6, 1e-7])
def test_a_small_bias_is_a_bias(excess: float) -> None:
    # Sequence means of lengths 1, 1 + excess, 1 are the sums but for the second outcome's, which counts that much less.
    problem = Problem(PROBLEM.base, PROBLEM.reward, [1.0, 1.0 + excess, 1.0])
    for lengths, unbiased in ((problem, False), (Problem(PROBLEM.base, PROBLEM.reward), True)):
        found = estimators.policy_gradient_estimate(setting(TASK, lengths, POLICY, 3), "rloo", "sequence-mean")
        assert (found.unbiased, found.proportional) == (unbiased, unbiased)
    mean = POLICY @ PROBLEM.reward
    lost = POLICY[1] * (PROBLEM.reward[1] - mean) * (np.eye(3)[1] - POLICY)
    found = estimators.policy_gradient_estimate(setting(TASK, problem, POLICY, 3), "rloo", "sequence-mean")
    np.testing.assert_allclose(found.bias, -excess * lost, rtol=1e-4, atol=1e-15)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_equal_lengths_only_rescale(name: str) -> None:
    problem = Problem(PROBLEM.base, PROBLEM.reward, [4, 4, 4])
    given_setting = setting(TASK, problem, POLICY, 3)
    whole = estimators.policy_gradient_estimate(given_setting, name)
    for how in ("sequence-mean", "token-mean"):
        part = estimators.policy_gradient_estimate(given_setting, name, how)
        np.testing.assert_allclose(part.expectation, whole.expectation / 4, atol=1e-15)
        np.testing.assert_allclose(part.covariance, whole.covariance / 16, atol=1e-15)


def test_groups_average_independent_kl_samples() -> None:
    one, many = (estimators.kl_estimate(setting(TASK, PROBLEM, POLICY, g), "k3", "loss") for g in (1, 7))
    np.testing.assert_allclose(many.expectation, one.expectation, atol=1e-14)
    np.testing.assert_allclose(many.covariance, one.covariance / 7, atol=1e-14)


@pytest.mark.parametrize(("n", "group"), [(2, 1), (2, 500), (5, 8), (7, 4)])
def test_multisets_carry_all_probability(n: int, group: int) -> None:
    policy = np.random.default_rng(n).dirichlet(np.ones(n))
    groups = estimators.enumerate_groups(policy, group)
    assert groups.counts.shape == (math.comb(n + group - 1, group), n)
    assert np.all(groups.counts.sum(axis=1) == group)
    np.testing.assert_allclose(groups.probability.sum(), 1.0, rtol=1e-11)
    np.testing.assert_allclose(groups.probability @ groups.counts, group * policy, rtol=1e-10)


# Claims.


def test_every_claim_holds_where_it_can_be_told() -> None:
    found = claims(setting(TASK, PROBLEM, POLICY, 4))
    assert len(found) == 16
    assert [claim.claim for claim in found if claim.confirmed is not True] == []


@pytest.mark.parametrize("policy", [[0.8, 0.2], [0.3, 0.7], [0.55, 0.45]])
def test_steps_change_the_kl_as_their_sign_says(policy: list[float]) -> None:
    """Two outcomes: a small step of the expected gradients, written out, and the KL before and after it."""
    p, pi = np.array([0.5, 0.5]), np.array(policy)
    reverse = pi * (np.log(pi / p) - pi @ np.log(pi / p))
    forward = pi - p
    steps = {"k1 in the reward": reverse, "k3 in the reward": reverse - forward, "k3 in the loss": forward}
    kl = pi @ np.log(pi / p)
    decided = {claim.claim: claim for claim in claims(setting(TASK, Problem(p, [0, 1]), pi, 2))[9:12]}
    for words, claim in decided.items():
        gradient = next(step for name, step in steps.items() if words.startswith(name))
        theta = np.log(pi) - 1e-6 * gradient
        moved = np.exp(theta) / np.exp(theta).sum()
        change = (moved @ np.log(moved / p) - kl) / 1e-6
        assert claim.numbers["kl_slope"] == pytest.approx(change, rel=1e-3, abs=1e-9)
        assert claim.confirmed == ((change > 0) == ("raises" in words))
    assert all(claim.confirmed for claim in decided.values())  # with p = (1/2, 1/2), from either side


def test_k3_in_the_reward_lowers_the_kl_from_some_policies() -> None:
    found = claims(setting(TASK, Problem([0.8, 0.2], [0, 1]), [0.7, 0.3], 2))[10]
    assert (found.confirmed, found.numbers["kl_slope"] < 0) == (False, True)


def test_the_published_bernoulli_numbers() -> None:
    numbers = estimator_claims.bernoulli_claim().numbers
    np.testing.assert_allclose(numbers["k1 in reward"], math.log(4.0), rtol=1e-13)
    np.testing.assert_allclose(numbers["k3 in loss"], 0.5 / 0.2 - 0.5 / 0.8, rtol=1e-13)


def test_a_wrong_estimator_refutes_the_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    right = estimators.kl_estimate

    def swapped(given_setting: Any, term: str, placement: str) -> Any:
        return right(given_setting, term, "loss" if placement == "reward" else "reward")

    monkeypatch.setattr(estimator_claims, "kl_estimate", swapped)
    found = claims(setting(TASK, PROBLEM, POLICY, 2))
    # k1 and k2 and both k3 identities are swapped; "biased" stays true of either k3.
    assert [claim.confirmed for claim in found[:9]] == [False, False, False, False, False, True, True, False, False]


def test_claims_that_the_problem_cannot_tell_are_left_open() -> None:
    at_the_base = claims(setting(TASK, PROBLEM, PROBLEM.base, 2))
    assert [claim.confirmed for claim in at_the_base[:8]] == [None] * 8
    assert [claim.confirmed for claim in at_the_base[9:12]] == [None] * 3
    level = claims(setting(TASK, Problem(PROBLEM.base, [1, 1, 1], PROBLEM.length), POLICY, 2))
    assert [claim.confirmed for claim in level[-2:]] == [None, None]
    two = claims(setting(TASK, Problem([0.5, 0.5], [1, 0], [1, 4]), [0.7, 0.3], 2))  # which have one direction only
    assert [claim.confirmed for claim in two[-2:]] == [True, None]
    equal = claims(setting(TASK, Problem(PROBLEM.base, PROBLEM.reward), POLICY, 2))
    assert equal[-1].confirmed is None


@pytest.mark.parametrize(
    "bad",
    [
        lambda: setting(TASK, PROBLEM, [0.5, 0.5], 2),
        lambda: setting(TASK, PROBLEM, [0.5, 0.5, 0.0], 2),
        lambda: setting(TASK, PROBLEM, [0.5, 0.4, 0.2], 2),
        lambda: setting(TASK, PROBLEM, [np.nan, 0.4, 0.2], 2),
        lambda: setting(TASK, PROBLEM, POLICY, 0),
        lambda: setting(TASK, PROBLEM, POLICY, 10**4),
        lambda: setting(TASK, PROBLEM, POLICY, 10**9),
        lambda: setting(TASK, Problem([0.5, 0.5, 0.0], [0, 0, 1]), POLICY, 2),
        lambda: estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, 1), "rloo"),
        lambda: estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, 1), "grpo"),
        lambda: estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, 2), "ppo"),
        lambda: estimators.policy_gradient_estimate(setting(TASK, PROBLEM, POLICY, 2), "rloo", "sum"),
        lambda: estimators.kl_estimate(setting(TASK, PROBLEM, POLICY, 2), "k4", "loss"),
        lambda: estimators.kl_estimate(setting(TASK, PROBLEM, POLICY, 2), "k1", "advantage"),
        lambda: estimators.kl_estimate(setting(TASK, PROBLEM, [1.0, 1e-310, 1e-310], 1), "k3", "loss"),
    ],
)
def test_bad_input(bad: object) -> None:
    assert callable(bad)
    with pytest.raises(InputError):
        bad()


# The command.


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["theory", "estimators", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["--json", "--group", "3"], capsys)
    assert (code, err) == (0, "")
    report = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report["group"] == 3
    assert report["length"] == [2, 6, 3, 9, 4]
    np.testing.assert_allclose(
        report["policy"],
        (weights := np.sqrt(report["base"]) * np.exp(report["reward"])) / weights.sum(),
        rtol=1e-12,
    )
    assert len(report["estimators"]) == 18
    for entry in report["estimators"]:
        np.testing.assert_allclose(np.linalg.norm(entry["bias"]), entry["bias_norm"], atol=1e-15)
        np.testing.assert_allclose(np.sum(entry["variances"]), entry["variance"], rtol=1e-12)
        target = report["kl_gradient" if entry["target"] == "kl" else "objective_gradient"]
        np.testing.assert_allclose(np.subtract(entry["expectation"], target), entry["bias"], atol=1e-15)
    unbiased = {(entry["name"], entry["placement"]) for entry in report["estimators"] if entry["unbiased"]}
    assert unbiased == {
        ("k1", "reward"),
        ("k2", "loss"),
        ("reinforce", "sequence-sum"),
        ("rloo", "sequence-sum"),
    }
    assert len(report["claims"]) == 16
    assert all(claim["confirmed"] is True for claim in report["claims"])


@pytest.mark.parametrize("arguments", [[], ["--preset", "tilted"], ["--base", "zipf:3", "--policy", "uniform:3"]])
def test_the_table_fits_eighty_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(arguments, capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert out.count("confirmed") + out.count("undecided") == 16


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--group", "1"], "group"),
        (["--group", "0"], "group"),
        (["--group", "100000"], "group"),
        (["--policy", "0.5,0.5"], "policy"),
        (["--policy", "0.5,0.2"], "policy"),
        (["--policy", "missing.npy"], "policy"),
        (["--base", "0.5,0.5,0"], "base"),
        (["--reward", "1e6,0,0,0,0"], "policy"),
        (["--preset", "foo"], "preset"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"error: {word}")


def test_the_documented_example_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```console\n\$ sharpen theory estimators(.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 1
    for flags, shown in blocks:
        code, out, _ = run(flags.split(), capsys)
        assert code == 0
        assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()
