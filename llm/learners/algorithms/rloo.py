"""RLOO: each sample against the mean of the others (Kool 2019; Ahmadian 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.learner import PolicyGradient

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class RLOO(PolicyGradient):
    """The paper's learner: unbiased, no division by a deviation."""

    takes_utilities: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return R minus the mean of the others, shape [P, G]."""
        return leave_one_out(rewards_PG)
