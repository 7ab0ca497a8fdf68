"""MaxRL with -1 where all are wrong: maximum likelihood of being right, to the order G."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import relative_to_mean
from sharpen.llm.learners.parts.learner import Labelled

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.objective import Objective


class MaxRLOrderG(Labelled):
    """As ``maxrl``; the samples of a group without a right one count -1 each, as (r - mean)/mean does but for 0/0.

    The mean update is the gradient of -sum_{j <= G} (1 - P)^j / j (THEORY T19), as that of ``rloo`` with the
    utility ``log`` is.
    """

    own_utility: ClassVar[str | None] = "log"
    by_group: ClassVar[bool] = True

    def reward_advantages(self, settings: LearnerSettings, objective: Objective, rewards_PG: Tensor) -> Tensor:
        """Return (r - mean) / mean of the group, -1 where the mean is 0, shape [P, G]."""
        return relative_to_mean(rewards_PG, -1.0)
