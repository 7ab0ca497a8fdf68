"""Utilities of the success rate in the toy's exact learners, against SciPy's integration and the theory's optima."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from sharpen.cli.main import main
from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy import simulate
from sharpen.toy.problems.setting import setting
from sharpen.toy.problems.utility import end_slopes, restoring_rate, success_slope

BASE, REWARD = [0.6, 0.35, 0.03, 0.02], [0.0, 0.0, 1.0, 1.0]
LOG_P, R = np.log(BASE), np.array(REWARD)
SLOPES = {
    "log": lambda p: 1 / p,
    "pass@4": lambda p: 4 * (1 - p) ** 3,
    "arcsin": lambda p: 1 / math.sqrt(p * (1 - p)),
}


def integrated(utility: str, beta: float, alpha: np.ndarray, field: str, times: np.ndarray) -> np.ndarray:
    """Follow the flow of f(P) - beta KL by SciPy, in logits, written out anew; shape [len(times), 4]."""

    def policy(theta: np.ndarray) -> np.ndarray:
        weight = np.exp(theta - theta.max())
        return weight / weight.sum()

    def velocity(_: float, theta: np.ndarray) -> np.ndarray:
        pi = policy(theta)
        A = SLOPES[utility](float(pi @ R)) * R + beta * (alpha * LOG_P - np.log(pi))
        return A - pi @ A if field == "natural" else pi * (A - pi @ A)

    found = solve_ivp(velocity, (0.0, times[-1]), LOG_P, "LSODA", t_eval=times, rtol=1e-10, atol=1e-12)
    return np.array([policy(theta) for theta in found.y.T])


@pytest.mark.parametrize(
    ("utility", "field", "beta", "alpha", "right"),
    [
        ("log", "softmax", 0.7, 1.3, 0.5),
        ("pass@4", "natural", 0.7, 1.0, None),
        ("arcsin", "natural", 0.7, 1.0, None),
        ("arcsin", "softmax", 0.4, 1.3, 0.5),
    ],
)
def test_the_flows_follow_scipys_integration(
    utility: str, field: str, beta: float, alpha: float, right: float | None
) -> None:
    eta = 0.25
    objective = Objective(alpha=alpha, alpha_right=right, beta_inv=1 / beta, utility=utility)
    run = simulate(objective, BASE, REWARD, learners=f"{field}-flow", steps=32, record_every=4, step_size=eta)
    exponents = np.where(R == 1, alpha if right is None else right, alpha)
    expected = integrated(utility, beta, exponents, field, eta * run.updates.astype(float))
    (policy,) = run.policy.values()
    np.testing.assert_allclose(policy[:, 0], expected, atol=1e-7)
    assert np.abs(policy[-1, 0] - policy[0, 0]).max() > 0.05  # it went somewhere


@pytest.mark.parametrize(
    ("utility", "beta", "success"),
    [("log", 0.6, None), ("log", 0.5, None), ("pass@4", 0.6, None), ("arcsin", 0.6, 0.619881), ("arcsin", 0.5, 1.0)],
)
def test_exact_learners_end_where_the_equation_says_on_both_sides_of_the_fold(
    utility: str, beta: float, success: float | None
) -> None:
    """x - x_0 = f'(P)/beta by root finding, or docs/grpo-fold.md's numbers: 0.62 at beta 0.6, certainty at 0.5."""
    if success is None:
        start = math.log(0.05 / 0.95)
        x = brentq(lambda x: x - start - SLOPES[utility](1 / (1 + math.exp(-x))) / beta, start, 60.0, xtol=1e-13)
        success = 1 / (1 + math.exp(-float(x)))  # pyright: ignore[reportArgumentType]
    run = simulate(
        Objective(beta_inv=1 / beta, utility=utility), BASE, REWARD,
        learners=["natural", "softmax"], steps=1500,
    )  # fmt: skip
    ends = run.ends().set_index("learner")
    assert ends.expected_reward["natural"] == pytest.approx(success, abs=1e-6)
    assert ends.verdict["natural"] == "agrees"
    assert ends.expected_reward["softmax"] == pytest.approx(success, abs=1e-4)  # near certainty like 1/t^2
    assert ends.verdict["softmax"] in ("agrees", "approaches")
    last = run.frame().query("step == 1500 and learner == 'natural'").iloc[0]
    if success == 1.0:  # the KL to certainty is infinite, the mass on right answers is not
        assert math.isnan(last.kl_optimum)
        assert last.face_mass == pytest.approx(1.0, abs=1e-12)
    else:
        assert last.kl_optimum == pytest.approx(0.0, abs=1e-9)
        assert math.isnan(last.face_mass)
    assert last.value == pytest.approx(float(ends.value["natural"]), rel=1e-12)


def test_without_a_kl_every_utility_ends_where_the_task_reward_does() -> None:
    found = simulate(
        Objective(alpha=0, beta_inv=1, mode="optimization", utility="log"), BASE, REWARD,
        learners=["natural", "softmax"], steps=3000,
    )  # fmt: skip
    policy = found.policy["task-reward/natural"][-1, 0]
    np.testing.assert_allclose(policy, [0.0, 0.0, 0.6, 0.4], atol=1e-6)
    assert set(found.ends().compared_with) == {"limit", "face"}
    assert set(found.ends().verdict) <= {"agrees", "approaches"}


def test_a_policy_that_rounds_to_certain_has_a_finite_slope() -> None:
    reward = jnp.array([[0.0, 1.0]])
    for utility in SLOPES:
        for pi in ([0.0, 1.0], [1e-20, 1.0 + 1e-12], [1.0, 0.0]):
            assert jnp.isfinite(success_slope(utility, jnp.array([pi]), reward)).all()


def test_the_slope_at_the_end_makes_it_a_gibbs_policy() -> None:
    objective = Objective(alpha=1.5, beta_inv=1.25, utility="log")
    problem = Problem(BASE, REWARD)
    (slope,) = end_slopes(objective, [problem])
    weights = np.array(BASE) ** 1.5 * np.exp(1.25 * slope * R)
    success = weights[2:].sum() / weights.sum()
    assert slope == pytest.approx(1 / success, rel=1e-10)
    assert end_slopes(Objective(), [problem]).tolist() == [1.0]
    assert end_slopes(Objective(beta_inv=2, utility="arcsin"), [problem]).tolist() == [math.inf]


def test_a_natural_step_that_jumps_over_the_end_is_refused() -> None:
    """At P = 0.05 to 0.06 log P bends so much that eta w_h < 2 is not enough."""
    objective, problem = Objective(beta_inv=0.1, utility="log"), Problem(BASE, REWARD)
    rate = restoring_rate(objective, problem)
    assert rate > 1.5 * objective.coefficients.w_h
    given = {"base": BASE, "reward": REWARD, "learners": "natural", "steps": 400}
    with pytest.raises(InputError, match="step_size"):
        simulate(objective, step_size=2.02 / rate, **given)  # type: ignore[arg-type]
    run = simulate(objective, step_size=1.9 / rate, **given)  # type: ignore[arg-type]
    assert run.ends().verdict.tolist() == ["agrees"]


@pytest.mark.parametrize(
    ("objective", "reward", "field"),
    [
        (Objective(beta_inv=1, utility="log"), [0.0, 0.5, 0.0, 1.0], "reward"),
        (Objective(beta_inv=1, utility="log"), [0.0, 0.0, 0.0, 0.0], "reward"),
        (Objective(beta_inv=1, utility="log", reference="policy"), REWARD, "reference"),
        (Objective(beta_inv=1, utility="log", mode="optimization"), REWARD, "mode"),
    ],
)
def test_what_has_no_optimum_here_is_refused(objective: Objective, reward: list[float], field: str) -> None:
    with pytest.raises(InputError) as refused:
        setting(objective, Problem(BASE, reward), 0.1)
    assert refused.value.field == field


def test_noise_on_rewards_is_refused() -> None:
    with pytest.raises(InputError, match="reward_noise"):
        setting(Objective(beta_inv=1, utility="log"), Problem(BASE, REWARD), 0.1, reward_noise=0.1)


@pytest.mark.parametrize("utility", ["log", "pass@4", "arcsin"])
def test_the_command_ends_where_the_theory_says(
    utility: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--utility", utility, "--beta-inv", "2", "--learner", "natural,softmax", "--steps", "400", "--json"]
    with pytest.raises(SystemExit) as left:
        main(["toy", "simulate", *arguments, "--out", str(tmp_path / "run")])
    assert left.value.code == 0
    tracks = json.loads(capsys.readouterr().out)["tracks"]
    assert {row["spec"]["utility"] for row in tracks} == {utility}
    for row in tracks:
        assert row["verdict"] in ("agrees", "approaches")
        assert row["expected_reward"] == pytest.approx(row["limit_expected_reward"], abs=1e-3)
    assert (tmp_path / "run" / "figure.png").is_file()


def test_a_flow_that_ends_in_certainty_is_followed_to_its_end() -> None:
    """The log-odds pass every bound in finite time; ratios of right answers still go on to p^alpha_right."""
    objective = Objective(alpha=1.3, alpha_right=0.5, beta_inv=1 / 0.7, utility="arcsin")
    run = simulate(objective, BASE, REWARD, learners="natural-flow", steps=100, step_size=0.25)
    policy = run.policy["tilted/natural-flow"][-1, 0]
    np.testing.assert_allclose(policy, np.array([0, 0, 0.03**0.5, 0.02**0.5]) / (0.03**0.5 + 0.02**0.5), atol=1e-6)
