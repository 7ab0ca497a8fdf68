"""REINFORCE without a baseline (Williams 1992)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.learner import PolicyGradient

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class Reinforce(PolicyGradient):
    """The reward itself as the advantage."""

    takes_utilities: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return R, shape [P, G]."""
        return rewards_PG
