"""RLOO with an entropy bonus where the entropy is below a target (as in Skywork-OR1, He 2025, arXiv 2505.22312)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.learner import PolicyGradient
from sharpen.llm.learners.parts.options import at_least_zero

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience


class AdaptiveEntropy(PolicyGradient):
    """The bonus c H(pi) with c = gain max(0, target - h), h the mean entropy of a group's tokens.

    Skywork-OR1 moves one coefficient by a fixed amount a step; a proportional one needs no memory, so that a killed run
    goes on to the same numbers, and acts on the prompts that have collapsed.

    Args:
        target: Nats a token, >= 0.
        gain: Weight of the bonus a nat that is missing, >= 0, in units of the reward.
    """

    takes_utilities: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def __init__(self, target: float = 0.2, gain: float = 0.1) -> None:
        self.target, self.gain = at_least_zero("target", target), at_least_zero("gain", gain)

    def without_kl(self, settings: LearnerSettings, batch: Experience, rewards_R: Tensor) -> Tensor:
        """Return the reward without its KL, less c log pi with the group's c, shape [R]."""
        assert batch.policy.entropy_BT is not None  # the trainer measures it
        tokens_P1 = batch.grouped(batch.policy.mask_BT.sum(dim=1)).sum(dim=1, keepdim=True).clamp(min=1)
        entropy_P1 = batch.grouped(batch.policy.entropy_BT.sum(dim=1)).sum(dim=1, keepdim=True) / tokens_P1
        weight_P1 = self.gain * (self.target - entropy_P1).clamp(min=0.0)
        return rewards_R - (weight_P1 * batch.grouped(batch.policy_R)).flatten()

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return R minus the mean of the others, shape [P, G]."""
        return leave_one_out(rewards_PG)
