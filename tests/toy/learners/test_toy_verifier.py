"""A verifier that errs, as two rates, and utilities as a sweep's axis, against the theory's optima and enumeration."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.optimum import optimum
from sharpen.toy import simulate, sweep
from sharpen.toy.dynamics.signal_to_noise import closed_form
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting
from sharpen.toy.simulation.alarm import entropy_alarm

BASE, REWARD = [0.5, 0.3, 0.2], [0.0, 1.0, 1.0]
PROBLEM = Problem(BASE, REWARD)


def test_a_sweep_over_utilities_and_rates_ends_at_their_optima() -> None:
    """With a verifier E[r] at the end is that of p exp(beta_inv (t - f) r) / Z; below t = f right answers are lost."""
    grid = {"base": BASE, "reward": REWARD, "learner": "natural", "seeds": 1, "steps": 300, "record_every": 300}
    table = sweep(grid, beta_inv=3.0, true_positive=[0.9, 0.2], false_positive=[0.1, 0.4])
    ends = table[table.step == 300].set_index(["true_positive", "false_positive"])
    for (t, f), row in ends.iterrows():  # type: ignore[misc]
        weight = 0.5 * math.exp(3.0 * (t - f))
        assert row.expected_reward == pytest.approx(weight / (weight + 0.5), abs=1e-9)
        assert row.kl_optimum == pytest.approx(0.0, abs=1e-9)
    bent = sweep(grid, beta_inv=2.0, utility=["identity", "log", "pass@4"])
    for name, row in bent[bent.step == 300].set_index("utility").iterrows():
        best = optimum(Objective(beta_inv=2.0, utility=str(name)), PROBLEM)
        assert row.expected_reward == pytest.approx(best.expected_reward, abs=1e-8)
    assert bent[bent.step == 300].expected_reward.nunique() == 3


def test_a_simulation_is_compared_with_the_optimum_of_what_the_verifier_says() -> None:
    """max J = log sum p e^(b r') / b with r' = f + (t - f) r, the verdict's mean."""
    found = simulate(
        Objective(beta_inv=3.0), BASE, REWARD, learners="natural", steps=400, true_positive=0.9, false_positive=0.1
    )
    assert found.summary is not None
    (row,) = found.summary["tracks"]
    assert row["verdict"] == "agrees"
    right = 0.5 * math.exp(3.0 * 0.9)
    wrong = 0.5 * math.exp(3.0 * 0.1)
    assert row["optimum"]["value"] == pytest.approx(math.log(right + wrong) / 3.0)
    assert row["value"] == found.frame().value.iloc[-1] == pytest.approx(row["optimum"]["value"], rel=1e-9)
    assert row["limit_expected_reward"] == pytest.approx(right / (right + wrong))  # of true rewards
    best = np.array([wrong, right]) / (right + wrong)
    away = float(np.sum(0.5 * np.log(0.5 / best)))  # KL from the base, whose outcomes are right and wrong as often
    assert found.frame().kl_optimum.iloc[0] == pytest.approx(away)


def test_the_noise_of_a_gradient_counts_the_verdicts() -> None:
    """RLOO's ratio in closed form, against all groups of two samples and their four pairs of verdicts."""
    t, f, pi = 0.8, 0.3, np.array([0.2, 0.5, 0.3])
    g, chances = [], []
    for group in itertools.product(range(3), repeat=2):
        for said in itertools.product((0.0, 1.0), repeat=2):
            right = [f + (t - f) * REWARD[x] for x in group]
            chance = math.prod(q if one else 1 - q for q, one in zip(right, said, strict=True))
            gain = said[0] - said[1]
            g.append((gain * (np.eye(3)[group[0]] - pi) - gain * (np.eye(3)[group[1]] - pi)) / 2)
            chances.append(chance * pi[list(group)].prod())
    updates, chance = np.array(g), np.array(chances)
    mean = chance @ updates
    expected = np.linalg.norm(mean) / math.sqrt(chance @ np.sum((updates - mean) ** 2, axis=1))
    options = Options(group_size=2, reference_moves=False, noisy_reward=False, noisy_verifier=True)
    task = Objective(alpha=0.0, beta_inv=1.0, mode="optimization")
    at = setting(task, PROBLEM, 0.1, verifier=(t, f))
    signal = closed_form("rloo", SEPARATE, options)
    assert signal is not None
    with jax.enable_x64():
        state = make("rloo", at, SEPARATE, options).init(jax.random.key(0))
        assert float(signal(at, jnp.log(jnp.asarray(pi))[None], state)) == pytest.approx(expected, rel=1e-10)


def test_rates_without_a_verdict_are_refused() -> None:
    with pytest.raises(InputError, match="true_positive"):
        sweep(base=BASE, reward=[0.0, 0.5, 1.0], beta_inv=1.0, true_positive=0.9, steps=1)
    with pytest.raises(InputError, match="true_positive"):
        sweep(base=BASE, reward=REWARD, beta_inv=1.0, utility="log", true_positive=0.9, steps=1)
    with pytest.raises(InputError, match="pass@K with K up to"):
        sweep(base=BASE, reward=REWARD, beta_inv=1.0, utility="pass@8", group_size=4, steps=1)


def test_the_alarm_of_a_collapsing_entropy() -> None:
    pi = np.array([[[0.5, 0.5]] * 3, [[0.98, 0.02], [0.999, 0.001], [0.6, 0.4]], [[0.999, 0.001]] * 2 + [[0.6, 0.4]]])
    found = entropy_alarm(np.log(pi), np.array([0, 10, 20]), np.array([0.9, 0.1]))
    assert found is not None
    assert found["below"] == pytest.approx(0.1 * math.log(2))
    assert (found["share"], found["update"]) == (pytest.approx(2 / 3), 15.0)  # two of three runs, at 20 and at 10
    assert found["limit_entropy"] == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert entropy_alarm(np.log(pi[:1]), np.array([0]), np.array([1.0, 0.0])) is None
