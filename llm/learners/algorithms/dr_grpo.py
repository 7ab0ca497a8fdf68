"""Dr. GRPO (Liu 2025, arXiv 2503.20783): GRPO without its two divisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import centred
from sharpen.llm.learners.parts.learner import Clipped

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class DrGRPO(Clipped):
    """GRPO that divides neither by the group's standard deviation nor by a response's length.

    Sums over tokens are divided by a constant: the number of sequences here, that times the longest length in their
    code, which is another step size.
    """

    aggregation: ClassVar[str | None] = "sequence_mean"
    takes_utilities: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return R minus the mean of the group, (G - 1)/G of RLOO's, shape [P, G]."""
        return centred(rewards_PG)
