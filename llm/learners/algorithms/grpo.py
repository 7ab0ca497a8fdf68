"""GRPO (Shao 2024, eq. 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sharpen.llm.learners.parts.advantage import standardised
from sharpen.llm.learners.parts.learner import Clipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class GRPO(Clipped):
    """One update per batch, k3 in the loss, the mean of each response's own mean over tokens."""

    published: ClassVar[Mapping[str, Any]] = {"kl": "k3-loss"}
    aggregation: ClassVar[str | None] = "response_mean"
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return (R - mean) / standard deviation of the group, shape [P, G]."""
        return standardised(rewards_PG)
