"""The mean update of each named learner over all groups of samples, against the published update written in NumPy.

The learners' own losses are visited group by group; the oracle follows each by hand, and for utilities of the success
rate it is the gradient itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binom

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy import simulate
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Options, SampledLearner
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting
from sharpen.toy.studies.phase import mean_over_groups

PROBLEM = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 1.0], [1.0, 2.0, 3.0])
LOG_P, R, PI = np.log(PROBLEM.base), PROBLEM.reward, np.array([0.55, 0.15, 0.3])
LOG_PI, SCORE, P = np.log(PI), np.eye(3) - PI, 0.45  # SCORE[x] = grad log pi(x), P = E[r]
W_H = 0.5
REST = LOG_P - W_H * LOG_PI - W_H * LOG_P + W_H * LOG_P  # (w_p - w_h) log p + w_h (log p - log pi), w_p = 1
U = R + REST
G, ETA = 4, 1e-3
GROUPS = np.array(list(itertools.product(range(3), repeat=G)))
GRADIENT_P, GRADIENT_REST = PI * (R - P), PI * (REST - PI @ REST)


def tilted(utility: str = "identity") -> Objective:
    return Objective(alpha=2.0, beta_inv=2.0, utility=utility)


@cache
def compiled(kind: str, utility: str, eta: float) -> Callable[[jax.Array], jax.Array]:
    learner = LEARNERS.get(kind)
    assert isinstance(learner, SampledLearner)
    options = Options(group_size=G, reference_moves=False, noisy_reward=False, utility=utility)
    return mean_over_groups(tilted(utility), PROBLEM, learner, options, eta, np.zeros(len(GROUPS)), GROUPS)


def of_the_learner(
    kind: str, utility: str = "identity", *, log_pi: np.ndarray = LOG_PI, eta: float = ETA
) -> np.ndarray:
    with jax.enable_x64():
        moved = np.asarray(compiled(kind, utility, eta)(jnp.asarray(log_pi)[None])[0])
    return moved - moved.mean()


def by_hand(advantage: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    mean = sum(np.prod(PI[group]) * (advantage(group) @ SCORE[group]) / G for group in GROUPS)
    return np.asarray(mean) - np.mean(mean)


def others(numbers: np.ndarray) -> np.ndarray:
    """Return the mean of the other samples of a group, one by one."""
    return np.array([np.delete(numbers, i).mean() for i in range(G)])


def beside(of_task: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda group: of_task(R[group]) + REST[group] - others(REST[group])


def standardised(reward: np.ndarray) -> np.ndarray:
    return (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)


def maxrl(empty: float) -> Callable[[np.ndarray], np.ndarray]:
    return beside(lambda r: (r - r.mean()) / r.mean() if r.any() else np.full(G, empty))


def pass_k(K: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean over all sets of K samples that hold a sample, standardised over all sets: the definition."""

    def advantage(r: np.ndarray) -> np.ndarray:
        sets = list(itertools.combinations(range(G), K))
        best = np.array([r[list(one)].max() for one in sets])
        if best.std() == 0.0:
            return np.zeros(G)
        scored = (best - best.mean()) / best.std()
        return np.array([np.mean([s for s, one in zip(scored, sets, strict=True) if i in one]) for i in range(G)])

    return beside(advantage)


def rho(group: np.ndarray) -> np.ndarray:
    """Return pi* / pi of the samples, pi* = p^2 e^(2 r) / Z with the group's own Z."""
    ratio = PROBLEM.base[group] ** 2 * np.exp(2.0 * R[group]) / PI[group]
    return ratio / ratio.mean()


def entropy(weight: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def advantage(group: np.ndarray) -> np.ndarray:
        S = -LOG_PI[group]
        return U[group] - others(U[group]) + weight(others(S)) * (S - others(S))

    return advantage


HAND: dict[tuple[str, str], Callable[[np.ndarray], np.ndarray]] = {
    ("dr-grpo", "identity"): lambda group: U[group] - U[group].mean(),
    ("cispo", "identity"): lambda group: standardised(U[group]),
    ("maxrl", "identity"): maxrl(0.0),
    ("maxrl-order-g", "identity"): maxrl(-1.0),
    ("pass-k", "pass@2"): pass_k(2),
    ("pass-k", "pass@4"): pass_k(4),
    ("nsr", "identity"): beside(lambda r: r - 1.0),
    ("w-reinforce", "identity"): beside(lambda r: np.where(r == 1, 0.1, -1.0)),
    ("power-distillation", "identity"): rho,
    ("alpha-divergence", "identity"): lambda group: 2 * (rho(group) ** 0.5 - others(rho(group) ** 0.5)),
    ("f-divergence", "identity"): lambda group: np.log(1 + rho(group)) - others(np.log(1 + rho(group))),
    ("entropy-bonus", "identity"): entropy(lambda H: np.full(G, 0.05)),
    ("adaptive-entropy", "identity"): entropy(lambda H: np.maximum(0.0, 0.5 - H)),
}


@pytest.mark.parametrize(("kind", "utility"), HAND)
def test_the_mean_update_is_the_published_one(kind: str, utility: str) -> None:
    epochs = 4 if kind == "cispo" else 1  # whose later epochs see a policy that has hardly moved
    found = of_the_learner(kind, utility, eta=1e-7 if kind == "cispo" else ETA) / epochs
    np.testing.assert_allclose(found, by_hand(HAND[kind, utility]), atol=2e-6 if kind == "cispo" else 1e-9)


def f_slope(utility: str) -> float:
    """Return the slope at P of the polynomial that groups of G stand for, from its definition."""
    if utility == "log":
        return sum((1 - P) ** j for j in range(G))
    if utility == "arcsin":
        m = np.arange(G + 1) / G
        return float(binom.pmf(np.arange(G + 1), G, P) @ np.sqrt(m * (1 - m))) / (P * (1 - P))
    K = int(utility.removeprefix("pass@"))
    return K * (1 - P) ** (K - 1)


@pytest.mark.parametrize(
    ("kind", "utility"), [("rloo", "log"), ("rloo", "pass@2"), ("rloo", "arcsin"), ("reinforce", "pass@4")]
)
def test_slopes_from_the_others_give_the_gradient_of_the_utility(kind: str, utility: str) -> None:
    """A_i = w_i (r_i - mean of the others): exactly f'(P) grad P for pass@K, and for the series of log to order G."""
    expected = f_slope(utility) * GRADIENT_P + GRADIENT_REST
    np.testing.assert_allclose(of_the_learner(kind, utility), expected, atol=1e-12)


def test_maxrl_in_both_orders_ascends_the_series_of_the_log() -> None:
    """T19: order G - 1 without, order G with -1 in groups that are all wrong."""
    for kind, order in (("maxrl", G - 1), ("maxrl-order-g", G)):
        slope = sum((1 - P) ** j for j in range(order))
        np.testing.assert_allclose(of_the_learner(kind), slope * GRADIENT_P + GRADIENT_REST, atol=1e-12)


def test_negative_samples_alone_have_reinforces_mean() -> None:
    for kind, scale in (("nsr", 1.0), ("w-reinforce", 1.1)):
        np.testing.assert_allclose(of_the_learner(kind), scale * GRADIENT_P + GRADIENT_REST, atol=1e-12)


def test_gspo_is_grpo_on_its_first_epoch_and_clipped_by_tokens_after() -> None:
    """Each sample's first epoch counts 1 / length; the second none of what passed 1 + 4e-4 or 1 - 3e-4."""

    def update(group: np.ndarray) -> np.ndarray:
        A, theta, length = standardised(U[group]), LOG_PI.copy(), PROBLEM.length[group]
        for _ in range(4):
            pi = np.exp(theta) / np.exp(theta).sum()
            ratio = (pi / PI)[group] ** (1 / length)
            inside = np.where(A > 0, ratio < 1 + 4e-4, ratio > 1 - 3e-4)
            theta = theta + ETA * (A * ratio * inside / length) @ (np.eye(3) - pi)[group] / G
        return (theta - LOG_PI) / ETA

    mean = sum(np.prod(PI[group]) * update(group) for group in GROUPS)
    np.testing.assert_allclose(of_the_learner("gspo"), mean - np.mean(mean), atol=1e-9)


@pytest.mark.parametrize("kind", ["power-distillation", "alpha-divergence", "f-divergence"])
def test_what_matches_a_target_rests_there(kind: str) -> None:
    best = np.log(PROBLEM.base**2 * np.exp(2.0 * R))
    best -= np.log(np.exp(best).sum())
    assert np.abs(of_the_learner(kind, log_pi=best)).max() < 1e-12
    assert np.abs(of_the_learner(kind)).max() > 0.01


@pytest.mark.parametrize(("kind", "along"), [("grpo", True), ("unlikeliness", False)])
def test_the_unlikeliness_reward_ascends_no_function_of_the_success_rate(kind: str, along: bool) -> None:
    """With the task reward alone GRPO's mean update is a multiple of grad P; that of He 2025 turns off it."""
    learner = LEARNERS.get(kind)
    assert isinstance(learner, SampledLearner)
    task, options = Objective(alpha=0.0, beta_inv=1.0, mode="optimization"), Options(group_size=G)
    with jax.enable_x64():
        update = mean_over_groups(task, PROBLEM, learner, options, ETA, np.zeros(len(GROUPS)), GROUPS)
        found = np.asarray(update(jnp.asarray(LOG_PI)[None])[0])
    off = found - (found @ GRADIENT_P) / (GRADIENT_P @ GRADIENT_P) * GRADIENT_P
    assert bool(np.linalg.norm(off) < 1e-9) is along
    assert np.linalg.norm(found) > 0.1
    if not along:
        assert np.linalg.norm(off) > 0.01


# What the engine hands to the losses: slopes from what was drawn, verdicts of a verifier that errs.


def moved(kind: str, utility: str, verifier: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over draws of one update, and its standard error."""
    options = Options(
        group_size=G, reference_moves=False, noisy_reward=False, utility=utility, noisy_verifier=verifier != (1.0, 0.0)
    )
    draws = 2**14
    with jax.enable_x64():
        learner = make(kind, setting(tilted(utility), PROBLEM, ETA, verifier=verifier), SEPARATE, options)
        state = learner.init(jax.random.key(0))
        state = state._replace(parameters=state.parameters._replace(theta=jnp.asarray(LOG_PI)[None]))
        keys = jax.random.split(jax.random.key(1), draws)
        ends = jax.jit(jax.vmap(lambda key: learner.step(state, key).parameters.theta[0]))(keys)
    change = (np.asarray(ends) - LOG_PI) / ETA
    change -= change.mean(axis=1, keepdims=True)
    return change.mean(axis=0), change.std(axis=0, ddof=1) / math.sqrt(draws)


@pytest.mark.parametrize(
    ("utility", "verifier", "expected"),
    [
        ("pass@2", (1.0, 0.0), 2 * (1 - P) * GRADIENT_P),
        ("identity", (0.9, 0.2), 0.7 * GRADIENT_P),
        ("identity", (0.1, 0.9), -0.8 * GRADIENT_P),  # T20: the sign of t - f decides
    ],
)
def test_the_engines_updates_have_the_mean_that_enumeration_says(
    utility: str, verifier: tuple[float, float], expected: np.ndarray
) -> None:
    mean, error = moved("rloo", utility, verifier)
    assert np.all(np.abs(mean - expected - GRADIENT_REST) < 5 * error)
    assert np.abs(expected).max() > 10 * error.max()


@pytest.mark.parametrize(
    ("learners", "objective", "given", "said"),
    [
        ("grpo", tilted("log"), {}, "arcsin for the learner grpo"),
        ("dr-grpo", tilted("log"), {}, "identity for the learner dr-grpo; any for"),
        ("pass-k", tilted(), {}, "pass@K for the learner pass-k"),
        ("rloo", tilted("pass@8"), {"group_size": 4}, "K up to the samples of an update, 4"),
        ("maxrl", Objective(alpha=2.0), {}, "a task reward"),
        ("maxrl", tilted(), {"reward": [0.0, 0.5, 1.0]}, "rewards 0 and 1"),
        ("nsr", tilted(), {"reward_noise": 0.1}, "reward_noise"),
        ("power-distillation", Objective(mode="optimization"), {}, "entropy"),
        ("rloo", tilted("log"), {"true_positive": 0.9}, "true_positive"),
        ("rloo", tilted(), {"true_positive": 0.9, "reward": [0.0, 0.5, 1.0]}, "true_positive"),
        ("rloo", tilted(), {"false_positive": 1.5}, "false_positive"),
    ],
)
def test_what_a_learner_cannot_follow_is_refused(learners: str, objective: Objective, given: dict, said: str) -> None:
    with pytest.raises((InputError, ValidationError), match=said):
        simulate(objective, PROBLEM.base, **{"reward": R, "learners": learners, "steps": 1, **given})
