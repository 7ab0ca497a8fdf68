"""Power self-distillation (Tomihari & Sato 2026, arXiv 2605.04542): likelihood of samples of the optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import target_ratio
from sharpen.llm.learners.parts.learner import Matching

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class PowerDistillation(Matching):
    """Maximum likelihood of samples of pi*, which is p^alpha where there is no reward: the gradient of -KL(pi* || pi).

    Published: samples of p^alpha are drawn once, by a sampler, and learned like any text. Here a step draws from the
    policy itself, and its samples stand for those of pi* by self-normalised importance weights, which has a bias of
    order 1/G. Where one sample outweighs its group it alone is learned.
    """

    several_epochs: ClassVar[bool] = True  # the weights are of the policy that drew the samples, whatever learns them
    by_group: ClassVar[bool] = True

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return rho, G times the weights of the samples of a group, shape [P, G]."""
        return target_ratio(rewards_PG, w_h).exp()
