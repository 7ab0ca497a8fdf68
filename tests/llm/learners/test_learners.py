"""Every learner against a loss written out by hand, its gradient by finite differences or enumeration."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sharpen.llm.configs.train import LearnerSettings, TrainConfig
from sharpen.llm.learners.experience import Experience, joined
from sharpen.llm.learners.parts.learner import LossInputs
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.learners.parts.registry import make
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.rollout import Rollout
from sharpen.objective import Objective, preset


def learner_rewards(settings: LearnerSettings, *given: Any) -> torch.Tensor:
    return settings.learner.rewards(settings, *given)


def advantages(settings: LearnerSettings, *given: Any) -> torch.Tensor:
    return settings.learner.advantages(settings, *given)


P, G, T = 3, 4, 5
TILTED = Objective(alpha=2.0, beta_inv=4.0, normalization="mean")


def experience(seed: int = 0, rewards: Any = None) -> Experience:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, T + 1, P * G)
    lengths[0] = T
    mask = torch.arange(T)[None, :] < torch.tensor(lengths)[:, None]

    def logprobs() -> torch.Tensor:
        return torch.tensor(-rng.exponential(size=(P * G, T))).masked_fill(~mask, 0.0)

    policy = TokenLogprobs(logprobs(), logprobs().abs(), mask)
    responses = [[1] * int(length) for length in lengths]
    rollout = Rollout([[0]] * (P * G), responses, [[0.0] * int(n) for n in lengths], [True] * (P * G))
    rewards = rng.integers(0, 2, P * G) if rewards is None else rewards
    mismatch = importance_weights(policy.logprobs_BT, policy.logprobs_BT + 0.1, mask, 20.0)
    texts = [f"text {row}" for row in range(P * G)]
    return Experience(list(range(P)), rollout, texts, policy, logprobs(), mismatch, torch.tensor(rewards).double())


def numbers(batch: Experience) -> tuple[np.ndarray, ...]:
    arrays = (batch.policy_R, batch.reference_R, batch.rewards_R)
    return *(np.array(x) for x in arrays), np.array(batch.lengths, dtype=float)


def test_k1_in_the_reward_is_the_objective() -> None:
    batch = experience()
    log_pi, log_p, r, length = numbers(batch)
    expected = r + (2.0 - 1.0) / 4.0 * log_p / length + (log_p - log_pi) / 4.0
    got = learner_rewards(LearnerSettings(), TILTED, batch, batch.policy.logprobs_BT)
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_estimators_of_the_kl_sum_over_tokens_or_leave_the_reward(name: str) -> None:
    batch = experience()
    _, log_p, r, length = numbers(batch)
    x = np.array(batch.policy.logprobs_BT - batch.reference_RT)
    token = {"k1": x, "k2": x**2 / 2, "k3": np.exp(-x) - 1 + x}[name] * np.array(batch.policy.mask_BT)
    without = r + log_p / length / 4.0
    in_reward = learner_rewards(LearnerSettings(kl=f"{name}-reward"), TILTED, batch, batch.policy.logprobs_BT)  # type: ignore[arg-type]
    np.testing.assert_allclose(in_reward, without - token.sum(axis=1) / 4.0, atol=1e-12)
    in_loss = learner_rewards(LearnerSettings(kl=f"{name}-loss"), TILTED, batch, batch.policy.logprobs_BT)  # type: ignore[arg-type]
    np.testing.assert_allclose(in_loss, without, atol=1e-12)


def by_hand(kind: str, reward: np.ndarray, w_h: float) -> np.ndarray:
    """Advantages of one group."""
    others = np.array([np.delete(reward, i).mean() for i in range(len(reward))])
    if kind == "reinforce":
        return reward
    if kind in ("rloo", "ppo"):
        return reward - others
    if kind == "tb-batch":
        return w_h * (reward - reward.mean())
    if kind == "best-of-n":
        return len(reward) * (np.arange(len(reward)) == int(np.argmax(reward)))
    return (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)


@pytest.mark.parametrize("kind", ["rloo", "reinforce", "grpo", "ppo", "dapo", "unlikeliness", "tb-batch", "best-of-n"])
def test_advantages(kind: str) -> None:
    rewards = np.random.default_rng(2).normal(size=(P, G))
    got = advantages(LearnerSettings(kind=kind), torch.tensor(rewards), 0.25)  # type: ignore[arg-type]
    np.testing.assert_allclose(got, [by_hand(kind, group, 0.25) for group in rewards], atol=1e-12)


def test_the_unlikeliness_reward_favours_rare_right_samples() -> None:
    """He 2025: r (1 - beta_rank (G - rank)/G), rank 0 the likeliest."""
    batch = experience(rewards=[1] * (P * G))
    settings = LearnerSettings(kind="unlikeliness", kl="k1-loss")
    got = learner_rewards(settings, preset("task-reward"), batch, batch.policy.logprobs_BT).view(P, G)
    for group, log_pi in zip(np.array(got), np.array(batch.policy_R).reshape(P, G), strict=True):
        rank = [sum(other > own for other in log_pi) for own in log_pi]
        np.testing.assert_allclose(group, [1 - 0.25 * (G - r) / G for r in rank])
        assert np.argmax(group) == np.argmin(log_pi)


def loss_of(
    settings: LearnerSettings, batch: Experience, logprobs: torch.Tensor, w_h: float, rows: list[int]
) -> torch.Tensor:
    rewards = learner_rewards(settings, TILTED, batch, batch.policy.logprobs_BT)
    A = advantages(settings, batch.grouped(rewards), w_h).flatten()
    inputs = LossInputs(A, batch.mismatch.weights_BT, batch.policy.logprobs_BT, batch.reference_RT, 7.0, w_h)
    mask = batch.policy.mask_BT[rows]
    width = int(mask.sum(dim=1).max())
    return settings.learner.loss(settings, inputs, rows, logprobs[rows, :width], mask[:, :width])


@pytest.mark.parametrize("kl", ["k1-reward", "k3-reward", "k1-loss", "k2-loss", "k3-loss"])
@pytest.mark.parametrize("kind", ["rloo", "grpo", "ppo", "dapo"])
def test_losses_written_out(kind: str, kl: str) -> None:
    batch = experience()
    settings = LearnerSettings(kind=kind, kl=kl)  # type: ignore[arg-type]
    logprobs = (
        batch.policy.logprobs_BT + 0.5 * torch.randn(P * G, T, generator=torch.Generator().manual_seed(3)).double()
    )
    w_h = 0.25
    rewards = np.array(learner_rewards(settings, TILTED, batch, batch.policy.logprobs_BT)).reshape(P, G)
    A = np.array([by_hand(kind, group, w_h) for group in rewards]).ravel()
    expected = 0.0
    for row, length in enumerate(batch.lengths):
        for t in range(length):
            now, start = float(logprobs[row, t]), float(batch.policy.logprobs_BT[row, t])
            weight, x = float(batch.mismatch.weights_BT[row, t]), now - float(batch.reference_RT[row, t])
            ratio = np.exp(now - start)
            high = 0.28 if kind == "dapo" else 0.2
            clipped = min(max(ratio, 0.8), 1 + high)
            gain = A[row] * now if kind == "rloo" else min(ratio * A[row], clipped * A[row])
            expected -= weight * gain / 7.0
            if kl.endswith("loss"):
                expected += w_h * weight * {"k1": x, "k2": x * x / 2, "k3": np.exp(-x) - 1 + x}[kl[:2]] / 7.0
    parts = [loss_of(settings, batch, logprobs, w_h, rows) for rows in ([0, 5, 7], [1, 2, 3, 4, 6, 8, 9, 10, 11])]
    assert float(sum(parts)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", ["grpo", "ppo", "dapo"])
def test_the_first_gradient_of_a_clipped_loss_is_the_policy_gradient(kind: str) -> None:
    batch = experience()
    settings = LearnerSettings(kind=kind, kl="k1-reward")  # type: ignore[arg-type]
    logprobs = batch.policy.logprobs_BT.clone().requires_grad_()
    rows = list(range(P * G))
    loss_of(settings, batch, logprobs, 0.25, rows).backward()
    rewards = learner_rewards(settings, TILTED, batch, batch.policy.logprobs_BT)
    A = advantages(settings, batch.grouped(rewards), 0.25).flatten()
    expected = -(A[:, None] * batch.mismatch.weights_BT / 7.0).masked_fill(~batch.policy.mask_BT, 0.0)
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, expected)


def test_trajectory_balance_is_the_gradient_of_the_squared_residual() -> None:
    """1/2 mean_g (w_h log pi - u - mean)^2 with the mean held constant, differentiated by torch."""
    rng = np.random.default_rng(4)
    theta = torch.tensor(rng.normal(size=6), requires_grad=True)
    log_p = torch.log_softmax(torch.tensor(rng.normal(size=6)), 0)
    drawn, w_h, alpha = torch.tensor([[0, 1, 2, 5], [3, 3, 4, 1]]), 1.0, 2.0
    log_pi = torch.log_softmax(theta, 0)[drawn]
    gap = w_h * log_pi - alpha * log_p[drawn]
    (0.5 * (gap - gap.mean(dim=1, keepdim=True).detach()) ** 2).mean().backward()
    wanted = theta.grad.clone()  # type: ignore[union-attr]
    theta.grad = None
    pseudo = alpha * log_p[drawn] - torch.log_softmax(theta, 0)[drawn].detach()
    A = advantages(LearnerSettings(kind="tb-batch"), pseudo, w_h)
    (-(A * torch.log_softmax(theta, 0)[drawn]).mean()).backward()
    torch.testing.assert_close(theta.grad, wanted)


def test_trajectory_balance_over_all_groups_points_along_rloo() -> None:
    """Over all groups of two the expected update of tb-batch is (G - 1)/G of RLOO's, on policy."""
    p = np.array([0.5, 0.3, 0.2])
    pi = np.array([0.2, 0.2, 0.6])
    pseudo = 2.0 * np.log(p) - np.log(pi)
    expected = {}
    for kind in ("tb-batch", "rloo"):
        total = np.zeros(3)
        for pair in itertools.product(range(3), repeat=2):
            A = np.array(advantages(LearnerSettings(kind=kind), torch.tensor(pseudo[list(pair)])[None], 1.0))[0]  # type: ignore[arg-type]
            for a, x in zip(A, pair, strict=True):
                total += pi[list(pair)].prod() * a * (np.eye(3)[x] - pi) / 2
        expected[kind] = total
    np.testing.assert_allclose(expected["tb-batch"], expected["rloo"] / 2, atol=1e-12)
    exact = pi * (pseudo - pi @ pseudo)
    np.testing.assert_allclose(expected["rloo"], exact, atol=1e-12)


def test_mixed_groups_go_by_the_task_reward() -> None:
    batch = experience(rewards=[1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    assert make("dapo", {}).keeps(batch, torch.randn(P, G)) == [False, True, False]


def test_taking_and_joining_keeps_every_row_with_its_numbers() -> None:
    a, b = experience(0), experience(1)
    both = joined([a, b])
    assert both.chosen == [0, 1, 2, 0, 1, 2]
    back = both.take([3, 4, 5])
    assert back.lengths == b.lengths
    torch.testing.assert_close(back.policy_R, b.policy_R)
    torch.testing.assert_close(back.reference_R, b.reference_R)
    assert torch.equal(back.rewards_R, b.rewards_R)  # type: ignore[arg-type]
    one = both.take([4])
    assert one.texts == b.texts[G : 2 * G]
    assert both.mismatch.tokens == a.mismatch.tokens + b.mismatch.tokens


def test_joined_rounds_have_the_mismatch_of_all_their_tokens() -> None:
    """Of every number but the first round's or the last one's; those with a row for each sample are taken with it."""
    parts, apart = [], []
    for seed, far in ((0, 0.9), (1, -0.4)):
        batch = experience(seed)
        mask = batch.policy.mask_BT
        off = (far * torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)).double()).where(mask, 0.0)
        mismatch = importance_weights(batch.policy.logprobs_BT, batch.policy.logprobs_BT - off, mask, 1.2)
        parts.append(replace(batch, mismatch=mismatch))
        apart.append(np.where(mask, off, np.nan))
    both, every = joined(parts), np.concatenate(apart)
    tokens = every[~np.isnan(every)]
    found = both.mismatch
    assert (found.max_error, found.error_sum) == pytest.approx((np.abs(tokens).max(), np.abs(tokens).sum()))
    assert (found.kl_sum, found.max_ratio) == pytest.approx((-tokens.sum(), np.exp(tokens.max())))
    assert (found.capped, found.units, found.tokens) == ((np.exp(tokens) > 1.2).sum(), len(tokens), len(tokens))
    np.testing.assert_allclose(np.sort(found.errors_N), np.sort(np.abs(tokens)))
    np.testing.assert_allclose(found.difference_B, np.nansum(every, axis=1))
    np.testing.assert_allclose(found.weights_BT, np.nan_to_num(np.minimum(np.exp(every), 1.2), nan=1.0))
    one = both.take([4]).mismatch
    np.testing.assert_allclose(one.difference_B, np.nansum(every, axis=1)[4 * G : 5 * G])
    np.testing.assert_allclose(one.weights_BT, found.weights_BT[4 * G : 5 * G])


WRONG = [
    ({"learner": {"kind": "rloo", "epochs": 2}}, "epochs: got 2"),
    ({"learner": {"kind": "tb", "kl": "k2-loss"}}, "kl: got 'k2-loss'"),
    ({"learner": {"kind": "tb"}, "objective": preset("sharpening").to_dict()}, "learner.kind: got 'tb'"),
    ({"learner": {"kind": "ppo", "clip_low": 1.5}}, "clip_low"),
    ({"lora": {}, "objective": {"alpha": 2.0, "reference": "refresh:3"}}, "lora: got"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=[message for _, message in WRONG])
def test_settings_without_a_meaning_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(fields)
