"""The alpha-divergence to the optimum (Minka 2005, Divergence measures and message passing)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import leave_one_out, target_ratio
from sharpen.llm.learners.parts.learner import Matching

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class AlphaDivergence(Matching):
    """D_a = (1 - sum pi*^a pi^(1 - a)) / (a (1 - a)), whose gradient is -E[rho^a grad log pi] / a with rho = pi*/pi.

    Z is estimated from the group, so there is a bias of order 1/G.

    Args:
        a: Above 0; 1/2 is Hellinger's, towards 0 it is KL(pi || pi*), towards 1 KL(pi* || pi).
    """

    by_group: ClassVar[bool] = True

    def __init__(self, a: float = 0.5) -> None:
        if isinstance(a, bool) or not isinstance(a, int | float) or not 0 < a < float("inf"):
            raise ValueError(f"a: got {a!r}, allowed: a finite number above 0")
        self.a = float(a)

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return rho^a / a less the mean of the others, shape [P, G]."""
        return leave_one_out((self.a * target_ratio(rewards_PG, w_h)).exp() / self.a)
