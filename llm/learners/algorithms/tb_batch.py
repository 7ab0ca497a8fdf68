"""Trajectory balance (Malkin 2022) with the group's estimate of log Z (VarGrad, Richter 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import centred
from sharpen.llm.learners.parts.learner import PolicyGradient

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class BatchBalance(PolicyGradient):
    """The loss 1/2 mean (w_h log pi - u - mean of the group)^2, whose residual vanishes at the target.

    Its gradient is -w_h (R_g - mean R) grad log pi. It holds log pi - log p itself, so the KL has one place only; and
    without entropy there is no target.
    """

    kl_places: ClassVar[tuple[str, ...]] = ("k1-reward",)
    several_epochs: ClassVar[bool] = True
    off_policy: ClassVar[bool] = True
    follows_policy: ClassVar[bool] = True  # its residual is of the current policy
    needs_entropy: ClassVar[bool] = True
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return w_h (R - mean), shape [P, G]."""
        return w_h * centred(rewards_PG)
