"""RLOO with an entropy bonus of a fixed weight (Williams & Peng 1991)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.learner import PolicyGradient
from sharpen.llm.learners.parts.options import at_least_zero

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience


class EntropyBonus(PolicyGradient):
    """The gradient of J + c H(pi), H the entropy of whole responses, beside what entropy the objective has itself.

    Args:
        weight: c >= 0, in units of the reward a nat.
    """

    takes_utilities: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def __init__(self, weight: float = 0.01) -> None:
        self.weight = at_least_zero("weight", weight)

    def without_kl(self, settings: LearnerSettings, batch: Experience, rewards_R: Tensor) -> Tensor:
        """Return the reward without its KL, less c log pi, shape [R]."""
        return rewards_R - self.weight * batch.policy_R

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return R minus the mean of the others, shape [P, G]."""
        return leave_one_out(rewards_PG)
