"""The likelihood of the best of N samples (Huang 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import best_only
from sharpen.llm.learners.parts.learner import PolicyGradient

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class BestOfN(PolicyGradient):
    """Maximum likelihood of each group's best sample."""

    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return G at the first sample of largest reward and 0 elsewhere, shape [P, G]."""
        return best_only(rewards_PG)
