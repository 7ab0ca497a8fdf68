"""W-REINFORCE (Zhu 2025, arXiv 2506.01347): right samples count less than wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import signed
from sharpen.llm.learners.parts.learner import Labelled
from sharpen.llm.learners.parts.options import at_least_zero

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.objective import Objective


class WReinforce(Labelled):
    """REINFORCE on rewards +positive and -negative: positive and negative sample reinforcement, weighed.

    Published: positive .1, negative 1; their PSR is (1, 0), their NSR (0, 1). The mean update on fresh samples is
    (positive + negative) grad P whatever the two are: they choose the baseline, and so the noise, and what a finite
    step or several do.

    Args:
        positive: Weight of right samples, >= 0.
        negative: Weight of wrong ones, >= 0; not both 0.
    """

    by_group: ClassVar[bool] = True

    def __init__(self, positive: float = 0.1, negative: float = 1.0) -> None:
        self.positive, self.negative = at_least_zero("positive", positive), at_least_zero("negative", negative)
        if positive == negative == 0:
            raise ValueError("negative: got 0 with positive 0, allowed: one of them above 0")

    def reward_advantages(self, settings: LearnerSettings, objective: Objective, rewards_PG: Tensor) -> Tensor:
        """Return positive r - negative (1 - r), shape [P, G]."""
        return signed(rewards_PG, self.positive, self.negative)
