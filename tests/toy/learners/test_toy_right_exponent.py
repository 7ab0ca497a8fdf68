"""The toy with an exponent of right answers: its learners end at the optimum that the formula names."""

from __future__ import annotations

import numpy as np
import pytest

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy import simulate
from sharpen.toy.problems.setting import setting

BASE, REWARD, LENGTH = [0.4, 0.3, 0.2, 0.1], [0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize(("learner", "alpha", "right"), [("natural", 1.0, 0.0), ("natural-flow", 2.0, 0.5)])
def test_exact_learners_end_at_the_optimum(learner: str, alpha: float, right: float) -> None:
    objective = Objective(alpha=alpha, alpha_right=right, beta_inv=1.0)
    found = simulate(objective, BASE, REWARD, learners=learner, steps=400, seeds=1)
    weights = np.array(BASE) ** np.where(np.array(REWARD) == 1, right, alpha) * np.exp(REWARD)
    (policy,) = found.policy.values()
    np.testing.assert_allclose(policy[-1, 0], weights / weights.sum(), atol=1e-6)
    assert float(found.frame()["kl_optimum"].iloc[-1]) == pytest.approx(0.0, abs=1e-9)


def test_the_setting_holds_the_pseudo_reward_with_lengths() -> None:
    objective = Objective(alpha=2.0, alpha_right=0.5, beta_inv=2.0, normalization="mean")
    at = setting(objective, Problem(BASE, REWARD, LENGTH), 0.1)
    log_pi = np.log([0.1, 0.2, 0.3, 0.4])
    found = at.on_reward * np.array(REWARD) + at.on_reference * np.log(BASE) + at.on_policy * log_pi
    s = np.log(BASE) / LENGTH
    alpha = np.where(np.array(REWARD) == 1, 0.5, 2.0)
    expected = np.array(REWARD) + (alpha - 1) / 2 * s + (np.log(BASE) - log_pi) / 2
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)


def test_noisy_rewards_are_refused_beside_it() -> None:
    with pytest.raises(InputError, match="reward_noise"):
        setting(Objective(alpha_right=0.5), Problem(BASE, REWARD), 0.1, reward_noise=0.1)
