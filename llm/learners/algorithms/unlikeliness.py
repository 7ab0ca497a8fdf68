"""The unlikeliness reward (He 2025): right samples count more, the less likely they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import likeliness_discount, standardised
from sharpen.llm.learners.parts.learner import Clipped

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience


class Unlikeliness(Clipped):
    """GRPO's advantages of a reward that is scaled by the rank of a sample's likelihood in its group."""

    takes: ClassVar[frozenset[str]] = Clipped.takes | {"rank_penalty"}
    by_group: ClassVar[bool] = True

    def without_kl(self, settings: LearnerSettings, batch: Experience, rewards_R: Tensor) -> Tensor:
        """Return the reward without its KL, times the discount of its sample, shape [R]."""
        discount_PG = likeliness_discount(batch.grouped(batch.policy_R), settings.rank_penalty)
        return rewards_R * discount_PG.flatten()

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return (R - mean) / standard deviation of the group, shape [P, G]."""
        return standardised(rewards_PG)
