"""CISPO (MiniMax 2025, arXiv 2506.13585): importance weights that are capped, gradients that are not cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import standardised
from sharpen.llm.learners.parts.learner import PolicyGradient
from sharpen.llm.learners.parts.loss import capped_loss

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.parts.learner import LossInputs


class CISPO(PolicyGradient):
    """GRPO's advantages on REINFORCE's loss with capped weights; several updates on a batch make sense.

    Their report gives no cap. The default is 5, the one that ScaleRL (Khatri 2025, arXiv 2510.13786) recommends.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"clip_high"})
    several_epochs: ClassVar[bool] = True
    upper_clip: ClassVar[float] = 4.0
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return (R - mean) / standard deviation of the group, shape [P, G]."""
        return standardised(rewards_PG)

    def policy_loss(
        self, settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Return the loss of some rows, each token's weight at most 1 + the upper clip."""
        T = mask_BT.shape[1]
        weights, A, start = inputs.weights_RT[rows, :T], inputs.advantages_R[rows], inputs.start_RT[rows, :T]
        high = self.upper_clip if settings.clip_high is None else settings.clip_high
        return capped_loss(logprobs_BT, start, A, weights, mask_BT, inputs.normalizer, high)
