"""GSPO (Zheng 2025, arXiv 2507.18071): one clipped ratio a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sharpen.llm.learners.parts.advantage import standardised
from sharpen.llm.learners.parts.learner import Clipped
from sharpen.llm.learners.parts.loss import sequence_clipped_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class GSPO(Clipped):
    """GRPO's advantages, and the clip on the geometric mean of a response's token ratios.

    A mean over tokens hardly moves, so the published clips are 3e-4 and 4e-4 (their section 5.1).
    """

    published: ClassVar[Mapping[str, Any]] = {"clip_low": 3e-4}
    aggregation: ClassVar[str | None] = "response_mean"
    upper_clip: ClassVar[float] = 4e-4
    by_group: ClassVar[bool] = True
    surrogate: ClassVar[Callable[..., Tensor]] = staticmethod(sequence_clipped_loss)

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return (R - mean) / standard deviation of the group, shape [P, G]."""
        return standardised(rewards_PG)
