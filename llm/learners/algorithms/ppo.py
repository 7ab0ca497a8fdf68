"""PPO (Schulman 2017) with the other samples' mean where the paper has a critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.learner import Clipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class PPO(Clipped):
    """Several passes over a batch; with one its gradient is that of the leave-one-out policy gradient."""

    published: ClassVar[Mapping[str, Any]] = {"epochs": 4}
    takes_utilities: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return R minus the mean of the others, shape [P, G]."""
        return leave_one_out(rewards_PG)
