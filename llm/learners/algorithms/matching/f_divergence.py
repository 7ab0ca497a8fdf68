"""The Jensen-Shannon divergence to the optimum, an f-divergence (f-DPG, Go 2023, arXiv 2302.08215)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import leave_one_out, target_ratio
from sharpen.llm.learners.parts.learner import Matching

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class FDivergence(Matching):
    """Twice the Jensen-Shannon divergence of pi and pi*: a reward log((1 + rho) / 2) of rho = pi*/pi, as in GANs.

    D_f = sum pi* f(pi/pi*) has the gradient E[f'(pi/pi*) grad log pi]. Z is estimated from the group.
    """

    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return log(1 + rho) less the mean of the others, shape [P, G]."""
        log_ratio = target_ratio(rewards_PG, w_h)
        return leave_one_out(log_ratio.logaddexp(log_ratio.new_zeros(())))
