"""RLOO whose advantages are cut at a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.llm.learners import PolicyGradient, leave_one_out

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.learners import LearnerSettings


class Softened(PolicyGradient):
    """Leave-one-out advantages, cut at plus and minus a bound.

    Args:
        bound: Largest advantage.
    """

    def __init__(self, bound: float = 1.0) -> None:
        if bound <= 0:
            raise ValueError("bound above 0")
        self.bound = bound

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return the advantages, shape [P, G]: P prompts, G samples of each."""
        return leave_one_out(rewards_PG).clamp(-self.bound, self.bound)
