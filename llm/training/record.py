"""The metrics of a step, over the samples of all processes (docs/llm.md defines each)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from sharpen.llm.distributed.world import World
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.measures import effective_alpha, reliability
from sharpen.llm.learners.parts.loss import Mismatch
from sharpen.llm.rollout.agreement import agreement
from sharpen.llm.tasks.data import PromptSet

SAMPLES_LOGGED = 4


class Row(NamedTuple):
    """What the metrics need of one sample."""

    policy: float
    reference: float
    length: int
    finished: bool
    reward: float | None
    pseudo_reward: float
    entropy: float
    difference: float  # of trainer and engine, in the policy's log-probability


def rows_of(batch: Experience, pseudo_rewards: torch.Tensor) -> list[Row]:
    """Return one row per sample; ``pseudo_rewards`` are the learner's, shape [R]."""
    assert batch.policy.entropy_BT is not None
    rewards = [None] * len(batch.texts) if batch.rewards_R is None else batch.rewards_R.tolist()
    columns = (
        batch.policy_R.tolist(),
        batch.reference_R.tolist(),
        batch.lengths,
        batch.rollout.finished,
        rewards,
        pseudo_rewards.tolist(),
        batch.policy.entropy_BT.sum(dim=1).tolist(),
        batch.mismatch.difference_B.tolist(),
    )
    return [Row(*entry) for entry in zip(*columns, strict=True)]


def sample_metrics(
    rows: list[Row], group_size: int, reward_kind: str, *, against_reference: bool = True
) -> dict[str, Any]:
    """Return the metrics that are means over samples, and the effective alpha.

    Those that take the reference's log-probabilities are None without ``against_reference``.
    """
    columns = ("policy", "reference", "length", "difference")
    policy, reference, length, difference = (
        torch.tensor([getattr(row, name) for row in rows], dtype=torch.float64).view(-1, group_size) for name in columns
    )
    tokens = float(length.sum())
    rewards = [row.reward for row in rows if row.reward is not None]
    reward = sum(rewards) / len(rewards) if rewards else None
    free = effective_alpha(policy, reference) if against_reference else None
    fixed = effective_alpha(policy, reference, length) if against_reference else None
    return {
        "reward": reward,
        # The task reward is 0 or 1; null in a run that must not see the answers.
        "accuracy": reward if reward_kind == "task" else None,
        "pseudo_reward": sum(row.pseudo_reward for row in rows) / len(rows),
        "response_length": tokens / len(rows),
        "finished": sum(row.finished for row in rows) / len(rows),
        "entropy": sum(row.entropy for row in rows) / tokens,
        "kl_ref": float((policy - reference).mean()) if against_reference else None,
        "ref_logprob": float(reference.mean()) if against_reference else None,
        "effective_alpha": None if free is None else free.slope,
        "effective_alpha_low": None if free is None else free.low,
        "effective_alpha_high": None if free is None else free.high,
        "effective_alpha_reliability": reliability(reference, difference) if against_reference else None,
        "effective_alpha_fixed_length": None if fixed is None else fixed.slope,
        "effective_alpha_fixed_length_low": None if fixed is None else fixed.low,
        "effective_alpha_fixed_length_high": None if fixed is None else fixed.high,
    }


def mismatch_metrics(own: Mismatch, world: World) -> dict[str, float]:
    """Return how far engine and trainer disagree, over the samples of all processes."""
    parts = world.gather([own._replace(weights_BT=torch.empty(0), difference_B=torch.empty(0))])
    tokens = sum(part.tokens for part in parts)
    usual = agreement(torch.cat([part.errors_N for part in parts]))
    return {
        "engine_logprob_error": max(part.max_error for part in parts),
        "engine_logprob_error_mean": sum(part.error_sum for part in parts) / tokens,
        "engine_logprob_error_usual": usual.mean,
        "engine_logprob_error_high": usual.high,
        "engine_kl": sum(part.kl_sum for part in parts) / tokens,
        "importance_max": max(part.max_ratio for part in parts),
        "importance_capped": sum(part.capped for part in parts) / sum(part.units for part in parts),
    }


def some_samples(batch: Experience, pseudo_R: torch.Tensor, prompts: PromptSet, step: int) -> list[dict[str, Any]]:
    """Return the first response to each of the first prompts of a step, for reading."""
    G, rewards = batch.group_size, batch.rewards_R
    return [
        {
            "step": step,
            "id": prompts.prompts[batch.chosen[row // G]].id,
            "prompt": prompts.prompts[batch.chosen[row // G]].text,
            "response": batch.texts[row],
            "reward": None if rewards is None else float(rewards[row]),
            "pseudo_reward": float(pseudo_R[row]),
        }
        for row in range(0, min(len(batch.texts), SAMPLES_LOGGED * G), G)
    ]
