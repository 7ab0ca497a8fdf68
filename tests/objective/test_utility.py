"""Utilities of the success rate and the exponent of right answers, in the one objective."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import approx_fprime

from sharpen.objective import InputError, Objective, from_yaml, to_yaml
from sharpen.objective.functional import utility

NAMES = ("identity", "log", "pass@1", "pass@2", "pass@7", "arcsin")
LOG_P = np.log([0.4, 0.25, 0.2, 0.15])
REWARD = np.array([0.0, 1.0, 1.0, 0.0])
LENGTH = np.array([1, 3, 2, 5])


@pytest.mark.parametrize("name", NAMES)
@given(st.floats(0.01, 0.99))
def test_slope_and_bend_are_the_derivatives(name: str, p: float) -> None:
    import mpmath

    written = {
        "identity": lambda x: x,
        "log": mpmath.log,
        "pass@1": lambda x: x,
        "pass@2": lambda x: 1 - (1 - x) ** 2,
        "pass@7": lambda x: 1 - (1 - x) ** 7,
        "arcsin": lambda x: 2 * mpmath.asin(mpmath.sqrt(x)),
    }[name]
    f = utility(name)
    assert f.value(p) == pytest.approx(float(written(p)), rel=1e-12)
    assert f.slope(p) == pytest.approx(float(mpmath.diff(written, p)), rel=1e-9, abs=1e-12)
    assert f.bend(p) == pytest.approx(float(mpmath.diff(written, p, 2)), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("fields", [{"utility": name, "beta_inv": 2.0} for name in NAMES] + [
    {"alpha_right": 0.3},
    {"alpha_right": 0.3, "beta_inv": 2.0, "utility": "log", "normalization": "mean"},
    {"alpha_right": 3.0, "mode": "optimization"},
])  # fmt: skip
def test_the_pseudo_reward_drives_the_gradient_of_the_value(fields: dict[str, object]) -> None:
    objective = Objective.model_validate({"alpha": 1.7, **fields})
    theta = np.array([0.3, -0.2, 0.8, 0.1])

    def log_policy(logits: np.ndarray) -> np.ndarray:
        return logits - np.log(np.sum(np.exp(logits)))

    def value(logits: np.ndarray) -> float:
        given = {"reward": REWARD, "ref_logprob": LOG_P, "length": LENGTH}
        return float(objective.value(policy_logprob=log_policy(logits), **given))

    log_pi = log_policy(theta)
    pi = np.exp(log_pi)
    advantage = objective.pseudo_reward(
        reward=REWARD, ref_logprob=LOG_P, policy_logprob=log_pi, length=LENGTH, success=float(pi @ REWARD)
    )
    expected = pi * (advantage - pi @ advantage)
    slopes = np.asarray(approx_fprime(theta, value, 1e-6))
    np.testing.assert_allclose(slopes, expected, atol=2e-5)


def test_the_value_is_the_utility_of_the_success_rate_less_the_kl() -> None:
    pi = np.array([0.1, 0.2, 0.3, 0.4])
    for name, f in (("log", math.log(0.5)), ("pass@3", 1 - 0.5**3), ("arcsin", math.pi / 2)):
        objective = Objective(beta_inv=4.0, utility=name)
        found = objective.value(policy_logprob=np.log(pi), reward=REWARD, ref_logprob=LOG_P)
        assert found == pytest.approx(f - 0.25 * np.sum(pi * (np.log(pi) - LOG_P)), rel=1e-12)


def test_utilities_at_the_ends() -> None:
    assert utility("log").value(0.0) == -math.inf
    beyond = 1.0 + 1e-12  # sums of probabilities pass 1 by rounding
    assert utility("arcsin").value(beyond) == math.pi
    np.testing.assert_array_equal(utility("arcsin").value(np.array([0.0, 1.0, beyond])), [0.0, math.pi, math.pi])


def test_the_exponent_of_right_answers_is_one_of_normalised_likelihoods() -> None:
    found = Objective(alpha=2.0, alpha_right=0.5, normalization="mean").potential(
        reward=REWARD, ref_logprob=LOG_P, length=LENGTH
    )
    exponents = np.where(REWARD == 1, 0.5, 2.0)
    np.testing.assert_allclose(found, (exponents - 1) * LOG_P / LENGTH + LOG_P, rtol=1e-14)


def test_right_answers_have_an_exponent_of_their_own() -> None:
    objective = Objective(alpha=2.0, alpha_right=0.5)
    assert objective.right_weight == -1.5
    found = objective.potential(reward=REWARD, ref_logprob=LOG_P)
    np.testing.assert_allclose(found, np.where(REWARD == 1, 0.5, 2.0) * LOG_P, rtol=1e-15)
    same = Objective(alpha=2.0, alpha_right=2.0).potential(reward=REWARD, ref_logprob=LOG_P)
    np.testing.assert_array_equal(same, Objective(alpha=2.0).potential(ref_logprob=LOG_P))


@pytest.mark.parametrize("normalization", ["sum", "mean", "none"])
@pytest.mark.parametrize("mode", ["sampling", "optimization"])
@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_identity_and_one_exponent_are_the_old_objective_bit_for_bit(
    mode: str, normalization: str, alpha: float, beta_inv: float
) -> None:
    fields = {"alpha": alpha, "beta_inv": beta_inv, "mode": mode, "normalization": normalization}
    objective = Objective.model_validate(fields)
    w = objective.coefficients
    pi = np.log([0.1, 0.2, 0.3, 0.4])
    s = LOG_P / LENGTH if normalization == "mean" else LOG_P
    expected = w.w_r * REWARD  # as the formula was written before it had two more terms
    if w.w_p != w.w_h:
        expected = expected + (w.w_p - w.w_h) * s
    if w.w_h != 0.0:
        expected = expected + w.w_h * LOG_P - w.w_h * pi
    given = {"reward": REWARD, "ref_logprob": LOG_P, "policy_logprob": pi, "length": LENGTH}
    np.testing.assert_array_equal(objective.pseudo_reward(**given), expected)


def test_stored_objectives_of_older_versions_keep_their_text_and_digest() -> None:
    names = {"alpha", "beta_inv", "mode", "normalization", "weight", "reference"}
    assert set(Objective().to_dict()) == set(Objective().model_dump()) == names
    assert set(json.loads(Objective(alpha=2.0).model_dump_json())) == names
    assert Objective(alpha=2.0).digest() == "aa55f78c0eb4"
    assert Objective(alpha=2.0, alpha_right=0.0).to_dict()["alpha_right"] == 0.0
    assert Objective(beta_inv=1.0, utility="log").to_dict()["utility"] == "log"


@pytest.mark.parametrize("fields", [{"alpha_right": 0.25}, {"beta_inv": 2.0, "utility": "pass@4"},
                                    {"beta_inv": 2.0, "utility": "arcsin", "alpha_right": 3.0}])  # fmt: skip
def test_new_fields_survive_every_round_trip(fields: dict[str, object]) -> None:
    objective = Objective.model_validate(fields)
    assert from_yaml(to_yaml(objective)) == objective
    assert Objective.model_validate_json(objective.model_dump_json()) == objective
    flags = objective.to_flags()
    named = {flag.removeprefix("--").replace("-", "_"): x for flag, x in zip(flags[::2], flags[1::2], strict=True)}
    assert Objective.model_validate(named) == objective
    plain = Objective(beta_inv=objective.beta_inv)
    assert objective.digest() != plain.digest()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"utility": "loss", "beta_inv": 1}, "utility"),
        ({"utility": "pass@0", "beta_inv": 1}, "utility"),
        ({"utility": "pass@", "beta_inv": 1}, "utility"),
        ({"utility": "log"}, "beta_inv: got 0.0 with utility log"),
        ({"alpha_right": -1}, "alpha_right"),
        ({"alpha_right": 1e7}, "alpha_right"),
        ({"alpha_right": float("nan")}, "alpha_right"),
        ({"alpha_right": 1, "normalization": "none"}, "alpha_right: got 1.0 with normalization none"),
        ({"alpha_right": 1, "alpha": 0.5, "beta_inv": 1e-320}, "beta_inv"),
    ],
)
def test_bad_values_are_refused_and_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Objective.model_validate(fields)


@pytest.mark.parametrize("fields", [{"alpha_right": 0.0}, {"alpha_right": 2.0, "mode": "optimization"},
                                    {"beta_inv": 1.0, "utility": "log"}])  # fmt: skip
def test_each_needs_the_reward(fields: dict[str, object]) -> None:
    objective = Objective.model_validate(fields)
    assert objective.needs_reward
    with pytest.raises(ValueError, match="reward: got None"):
        objective.pseudo_reward(ref_logprob=LOG_P, policy_logprob=LOG_P, success=0.5)


def test_a_utility_has_no_potential_without_a_success_rate() -> None:
    with pytest.raises(InputError, match="utility: got 'log', allowed: identity"):
        Objective(beta_inv=1.0, utility="log").potential(reward=REWARD, ref_logprob=LOG_P)


def test_sampled_learners_of_the_toy_say_that_they_cannot_train_one() -> None:
    from sharpen.objective.checked import checked
    from sharpen.toy import SimulateConfig

    fields = {"objectives": {"new": {"beta_inv": 1.0, "utility": "log"}}}
    assert "rloo" in checked(SimulateConfig, fields).learners  # which can
    with pytest.raises(InputError, match="utility: got 'log', allowed: identity or arcsin for the learner grpo"):
        checked(SimulateConfig, fields | {"learners": ["grpo"]})


def test_language_model_learners_that_cannot_train_one_say_so() -> None:
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.objective.checked import checked

    fields = {"beta_inv": 1.0, "utility": "log"}
    assert checked(TrainConfig, {"objective": fields}).objective.utility == "log"  # rloo can
    with pytest.raises(InputError, match="utility: got 'log', allowed: identity for grpo"):
        checked(TrainConfig, {"objective": fields, "learner": {"kind": "grpo"}})
