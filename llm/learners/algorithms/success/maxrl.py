"""MaxRL (Tajwar 2026, arXiv 2602.02710): maximum likelihood of being right, to an order that the group sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import relative_to_mean
from sharpen.llm.learners.parts.learner import Labelled

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.objective import Objective


class MaxRL(Labelled):
    """The task reward less its group's mean, over that mean; nothing is learned from a group without a right sample.

    The mean update is the gradient of -sum_{j <= G-1} (1 - P)^j / j, log P to the order G - 1: by enumeration of groups
    (THEORY T19). Public documentation says G.
    """

    own_utility: ClassVar[str | None] = "log"
    by_group: ClassVar[bool] = True

    def reward_advantages(self, settings: LearnerSettings, objective: Objective, rewards_PG: Tensor) -> Tensor:
        """Return (r - mean) / mean of the group, 0 where the mean is 0, shape [P, G]."""
        return relative_to_mean(rewards_PG)
