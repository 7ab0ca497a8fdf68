"""GSPO (Zheng 2025, arXiv 2507.18071): one clipped ratio a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sharpen.llm.learners.parts.advantage import standardised
from sharpen.llm.learners.parts.learner import Clipped
from sharpen.llm.learners.parts.loss import sequence_clipped_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.parts.learner import LossInputs


class GSPO(Clipped):
    """GRPO's advantages, and the clip on the geometric mean of a response's token ratios.

    A mean over tokens hardly moves, so the published clips are 3e-4 and 4e-4 (their section 5.1).
    """

    published: ClassVar[Mapping[str, Any]] = {"clip_low": 3e-4}
    aggregation: ClassVar[str | None] = "response_mean"
    upper_clip: ClassVar[float] = 4e-4
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return (R - mean) / standard deviation of the group, shape [P, G]."""
        return standardised(rewards_PG)

    def policy_loss(
        self, settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Return the surrogate of some rows, clipped sequence by sequence."""
        T = mask_BT.shape[1]
        weights, A, start = inputs.weights_RT[rows, :T], inputs.advantages_R[rows], inputs.start_RT[rows, :T]
        low = settings.clip_low
        high = self.upper_clip if settings.clip_high is None else settings.clip_high
        return sequence_clipped_loss(logprobs_BT, start, A, weights, mask_BT, inputs.normalizer, low, high)
