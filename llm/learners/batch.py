"""What each learner makes of a batch: the reward it sees, its advantages and its loss.

All of them take the pseudo-reward of the objective; none restates its formula. Axis letters: P prompts, G samples of
one prompt, R = P G sequences, B rows of a microbatch, T response positions (padded).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sharpen.llm.configs.train import LearnerSettings
from sharpen.llm.learners.advantage import best_only, centred, leave_one_out, likeliness_discount, standardised
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.loss import clipped_loss, kl_estimate, kl_loss, reinforce_loss
from sharpen.objective import Objective


def learner_rewards(settings: LearnerSettings, objective: Objective, batch: Experience, policy_RT: Tensor) -> Tensor:
    """Return the reward of each sample as the learner sees it, shape [R], constants.

    With ``k1-reward`` that is the pseudo-reward u - w_h log pi. The other estimators replace its KL pair
    w_h (log p - log pi) by -w_h times their sum over the tokens, or leave it to the loss. The unlikeliness learner
    scales what is not the KL (He 2025).

    Args:
        settings: The learner.
        objective: The objective.
        batch: The samples.
        policy_RT: Token log-probabilities under the policy that the KL is of.
    """
    reference_R, policy_R = batch.reference_R, policy_RT.sum(dim=1)
    given = {
        "reward": batch.rewards_R,
        "ref_logprob": reference_R,
        "length": torch.tensor(batch.lengths, device=policy_R.device),
    }
    without_kl = objective.pseudo_reward(policy_logprob=reference_R, **given)  # log p - log p = 0
    name, _, place = settings.kl.partition("-")
    if name == "k1" and place == "reward":
        kl_part = objective.pseudo_reward(policy_logprob=policy_R, **given) - without_kl
    elif place == "reward":
        tokens_RT = kl_estimate(name, policy_RT - batch.reference_RT).masked_fill(~batch.policy.mask_BT, 0.0)
        kl_part = -objective.coefficients.w_h * tokens_RT.sum(dim=1)
    else:
        kl_part = torch.zeros_like(without_kl)
    if settings.kind == "unlikeliness":
        discount_PG = likeliness_discount(batch.grouped(batch.policy_R), settings.rank_penalty)
        without_kl = without_kl * discount_PG.flatten()
    return (without_kl + kl_part).detach()


def advantages(settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
    """Return the advantage of each sample, shape [P, G].

    Args:
        settings: The learner.
        rewards_PG: What :func:`learner_rewards` returned.
        w_h: Weight of the entropy; trajectory balance is scaled by it.

    Trajectory balance with the group's estimate of log Z (VarGrad, Richter 2020) has the loss
    1/2 mean (w_h log pi - u - mean of the group)^2, whose gradient is -w_h (R_g - mean R) grad log pi.
    """
    kind = settings.kind
    if kind in ("rloo", "ppo"):  # PPO's baseline is a critic (Schulman 2017); without one, the other samples' mean
        return leave_one_out(rewards_PG)
    if kind == "reinforce":
        return rewards_PG
    if kind == "tb":
        return w_h * centred(rewards_PG)
    if kind == "best-of-n":
        return best_only(rewards_PG)
    return standardised(rewards_PG)  # grpo, dapo, unlikeliness


def mixed_groups(batch: Experience, rewards_PG: Tensor) -> list[bool]:
    """Return for each prompt whether its samples' rewards differ (DAPO's dynamic sampling keeps those).

    The task reward decides where there is one, otherwise the pseudo-reward.
    """
    seen_PG = rewards_PG if batch.rewards_R is None else batch.grouped(batch.rewards_R)
    return ((seen_PG.amax(dim=1) - seen_PG.amin(dim=1)) > 0).tolist()


class LossInputs(NamedTuple):
    """Constants of the loss, one row a sample of the whole batch.

    Args:
        advantages_R: Shape [R].
        weights_RT: Weight of each token: importance weights of the trainer against the engine, divided by the length
            where the aggregation says so; shape [R, T].
        start_RT: Token log-probabilities before the first update on the batch.
        reference_RT: Token log-probabilities under the reference.
        normalizer: What sums over tokens are divided by; the same in every process.
        w_h: Weight of the KL in the loss.
    """

    advantages_R: Tensor
    weights_RT: Tensor
    start_RT: Tensor
    reference_RT: Tensor
    normalizer: float
    w_h: float


def learner_loss(
    settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """Return the loss of some rows; those of all rows add up to the batch's.

    Args:
        settings: The learner.
        inputs: Constants of the whole batch.
        rows: Which rows these are.
        logprobs_BT: Their token log-probabilities, with gradient.
        mask_BT: True at response tokens.
    """
    T = mask_BT.shape[1]
    weights, A = inputs.weights_RT[rows, :T], inputs.advantages_R[rows]
    if settings.clipped:
        start = inputs.start_RT[rows, :T]
        low, high = settings.clip_low, settings.upper_clip
        loss = clipped_loss(logprobs_BT, start, A, weights, mask_BT, inputs.normalizer, low, high)
    else:
        loss = reinforce_loss(logprobs_BT, A, weights, mask_BT, inputs.normalizer)
    name, _, place = settings.kl.partition("-")
    if place == "loss" and inputs.w_h != 0.0:
        reference = inputs.reference_RT[rows, :T]
        loss = loss + inputs.w_h * kl_loss(name, logprobs_BT, reference, weights, mask_BT, inputs.normalizer)
    return loss
