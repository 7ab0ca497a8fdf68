"""Negative sample reinforcement (Zhu 2025, arXiv 2506.01347): wrong samples count -1, right ones nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import signed
from sharpen.llm.learners.parts.learner import Labelled

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.objective import Objective


class NSR(Labelled):
    """REINFORCE on the rewards 0 and -1. Its mean update on fresh samples is grad P, as that of 1 and 0 is."""

    by_group: ClassVar[bool] = True

    def reward_advantages(self, settings: LearnerSettings, objective: Objective, rewards_PG: Tensor) -> Tensor:
        """Return r - 1, shape [P, G]."""
        return signed(rewards_PG, 0.0, 1.0)
