"""Utilities and exponents of right answers in the learners: the mean over every group against the gradient of J."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sharpen.llm.configs.recipes import folder_name
from sharpen.llm.configs.train import LearnerSettings, TrainConfig, resolve
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.learners.parts.registry import LEARNERS, make
from sharpen.llm.learners.parts.utility import advantages
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.rollout import Rollout
from sharpen.objective import InputError, Objective

G = 4
POLICY, BASE = np.array([0.15, 0.35, 0.2, 0.3]), np.array([0.1, 0.4, 0.3, 0.2])
REWARD = np.array([1.0, 0.0, 0.0, 1.0])
GROUPS = np.array(list(itertools.product(range(4), repeat=G)))  # each is a prompt of the batch
CHANCE = POLICY[GROUPS].prod(axis=1)


def every_group(reward: np.ndarray = REWARD) -> Experience:
    """A batch in which each group of one-token responses is there once."""
    drawn = GROUPS.ravel()
    mask = torch.ones(len(drawn), 1, dtype=torch.bool)
    policy = torch.tensor(np.log(POLICY)[drawn])[:, None]
    rollout = Rollout([[0]] * len(drawn), [[int(x)] for x in drawn], [[0.0]] * len(drawn), [True] * len(drawn))
    mismatch = importance_weights(policy, policy, mask, 20.0)
    return Experience(
        list(range(len(GROUPS))),
        rollout,
        [""] * len(drawn),
        TokenLogprobs(policy, -policy, mask),
        torch.tensor(np.log(BASE)[drawn])[:, None],
        mismatch,
        torch.tensor(reward[drawn]),
    )


def expected_update(kind: str, objective: Objective, reward: np.ndarray = REWARD, **options: Any) -> np.ndarray:
    """Mean over all groups of (1/G) sum A d log pi / d logits."""
    settings, batch = LearnerSettings(kind=kind, kl="k1-reward", options=options), every_group(reward)
    rewards_R = settings.learner.rewards(settings, objective, batch, batch.policy.logprobs_BT)
    A = advantages(settings.learner, settings, objective, batch, rewards_R).numpy()
    score = np.eye(4)[GROUPS] - POLICY  # [groups, G, outcomes]
    return np.einsum("n,ng,ngx->x", CHANCE, A, score) / G


def slope(utility: str, p: float) -> float:
    """Of the polynomial that stands for the utility in groups of G, written out."""
    if utility == "arcsin":
        share = [math.comb(G, m) * p**m * (1 - p) ** (G - m) * math.sqrt(m * (G - m)) / G for m in range(G + 1)]
        return sum(share) / (p * (1 - p))
    if utility == "log":
        return sum((1 - p) ** j for j in range(G))
    k = int(utility.removeprefix("pass@")) if utility != "identity" else 1
    return k * (1 - p) ** (k - 1)


def gradient(objective: Objective, reward: np.ndarray = REWARD) -> np.ndarray:
    """Of f_G(P) + sum_x pi (rest), by central differences."""
    w, right = objective.coefficients, objective.alpha_right
    exponent = objective.alpha + (0.0 if right is None else (right - objective.alpha)) * reward
    scale = 1.0 / objective.beta_inv if objective.beta_inv else 1.0

    def rest(logits: np.ndarray) -> float:
        pi = np.exp(logits) / np.exp(logits).sum()
        return float(pi @ (scale * exponent * np.log(BASE) - w.w_h * np.log(pi)))

    def success(logits: np.ndarray) -> float:
        return float(np.exp(logits) @ reward / np.exp(logits).sum())

    start, step, found = np.log(POLICY), 1e-6, []
    for x in np.eye(4) * step:
        found.append(
            (rest(start + x) - rest(start - x)) / (2 * step)
            + w.w_r * slope(objective.utility, success(start)) * (success(start + x) - success(start - x)) / (2 * step)
        )
    return np.array(found)


OBJECTIVES: list[dict[str, Any]] = [
    {"beta_inv": 2.0, "utility": "log"},
    {"beta_inv": 2.0, "utility": "arcsin", "alpha": 0.5},
    {"beta_inv": 0.5, "utility": "pass@4"},
    {"beta_inv": 1.0, "utility": "pass@2", "mode": "optimization", "alpha": 0.0},
    {"beta_inv": 2.0, "alpha": 2.0, "alpha_right": 0.0},
    {"alpha": 2.0, "alpha_right": 0.5},
    {"mode": "optimization", "alpha": 0.0, "alpha_right": 1.0, "beta_inv": 1.0},
    {"beta_inv": 3.0, "alpha": 2.0, "alpha_right": 0.5, "utility": "log"},
    {"beta_inv": 2.0, "alpha": 1.0},
]


@pytest.mark.parametrize("fields", OBJECTIVES, ids=[" ".join(map(str, one.values())) for one in OBJECTIVES])
@pytest.mark.parametrize("kind", ["rloo", "reinforce", "ppo"])
def test_the_mean_update_is_the_gradient(kind: str, fields: dict[str, Any]) -> None:
    objective = Objective(**fields)
    np.testing.assert_allclose(expected_update(kind, objective), gradient(objective), atol=1e-8)


def test_partial_scores_too() -> None:
    reward = np.array([1.0, 0.0, 0.4, 0.9])
    for objective in (Objective(utility="log", beta_inv=2.0), Objective(alpha_right=0, beta_inv=2, utility="pass@3")):
        np.testing.assert_allclose(expected_update("rloo", objective, reward), gradient(objective, reward), atol=1e-8)


def test_a_baseline_of_weighted_rewards_would_be_biased() -> None:
    """Why the task reward stands apart: leave-one-out of the weighted rewards misses the gradient."""
    objective, batch, settings = Objective(beta_inv=2.0, utility="log"), every_group(), LearnerSettings()
    rewards_R = settings.learner.rewards(settings, objective, batch, batch.policy.logprobs_BT)
    A = settings.learner.advantages(settings, batch.grouped(rewards_R), 0.5).numpy()
    naive = np.einsum("n,ng,ngx->x", CHANCE, A, np.eye(4)[GROUPS] - POLICY) / G
    assert np.abs(naive - gradient(objective)).max() > 0.02


@pytest.mark.parametrize("name", [name for name in LEARNERS.names() if not make(name, {}).needs_reward])
def test_without_either_field_the_advantages_are_the_learners_own(name: str) -> None:
    settings, batch = LearnerSettings(kind=name), every_group()
    for objective in (Objective(alpha=2.0, beta_inv=4.0), Objective(alpha=2.0)):
        rewards_R = settings.learner.rewards(settings, objective, batch, batch.policy.logprobs_BT)
        own = settings.learner.advantages(settings, batch.grouped(rewards_R), objective.coefficients.w_h)
        assert torch.equal(advantages(settings.learner, settings, objective, batch, rewards_R), own)


REFUSED = [
    ({"objective": {"utility": "log"}}, "beta_inv: got 0.0 with utility log"),
    ({"objective": {"utility": "log", "beta_inv": 1.0}, "learner": {"kind": "grpo"}}, "utility: got 'log'.*rloo"),
    ({"objective": {"utility": "log", "beta_inv": 1.0}, "learner": {"kind": "tb"}}, "utility: got 'log'.*rloo"),
    ({"objective": {"utility": "pass@9", "beta_inv": 1.0}}, "samples_per_prompt: got 8, allowed: at least 9"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_trained_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate({"samples_per_prompt": 8, **fields})


def test_rewards_that_are_no_shares_are_refused() -> None:
    for objective in (Objective(utility="log", beta_inv=1.0), Objective(alpha_right=0.5)):
        with pytest.raises(InputError, match=r"reward: got -0.5, allowed: 0 to 1"):
            expected_update("rloo", objective, np.array([1.0, 0.0, -0.5, 0.0]))


def test_what_the_objective_reads() -> None:
    """Right answers' exponent reads the reward and the reference, whatever the other weights."""
    spread = Objective(mode="optimization", alpha=0.0, alpha_right=1.0)
    assert spread.needs_reward
    assert spread.reads_reference
    assert not Objective(mode="optimization", alpha=0.0, beta_inv=1.0, utility="log").reads_reference
    assert resolve({"objective": spread.to_dict()}).objective == spread


def test_folders_of_different_objectives_have_different_names() -> None:
    fields: list[dict[str, Any]] = [
        {},
        {"utility": "log"},
        {"utility": "pass@2"},
        {"utility": "pass@4"},
        {"utility": "arcsin"},
    ]
    fields += [{"alpha_right": 0.0}, {"alpha_right": 0.5}, {"alpha_right": 0.5, "utility": "log"}]
    names = {folder_name("embedded", Objective(beta_inv=10.0, **one)) for one in fields}
    assert len(names) == len(fields)
