"""DAPO (Yu 2025): a wider upper clip, and rollouts until enough groups have mixed rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import standardised
from sharpen.llm.learners.parts.learner import Clipped

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience


class DAPO(Clipped):
    """GRPO's advantages on the groups that say something."""

    upper_clip: ClassVar[float] = 0.28
    resamples: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return (R - mean) / standard deviation of the group, shape [P, G]."""
        return standardised(rewards_PG)

    def keeps(self, batch: Experience, rewards_PG: Tensor) -> list[bool]:
        """Return for each prompt whether its samples' rewards differ (dynamic sampling).

        The task reward decides where there is one, otherwise the pseudo-reward.
        """
        seen_PG = rewards_PG if batch.rewards_R is None else batch.grouped(batch.rewards_R)
        return ((seen_PG.amax(dim=1) - seen_PG.amin(dim=1)) > 0).tolist()
