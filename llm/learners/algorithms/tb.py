"""Trajectory balance with a learned log Z (Malkin 2022); on language models FlowRL (Zhu 2025, arXiv 2509.15207)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.learner import PolicyGradient

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings


class TrajectoryBalance(PolicyGradient):
    """The loss 1/2 mean (z + w_h log pi - u)^2 with z, w_h log Z of each prompt, learned by the same loss.

    Both residuals vanish at the target exp(u / w_h) / Z with Z right, sample by sample and whoever sampled. The trainer
    keeps z (:class:`sharpen.llm.training.log_z.LogZ`), a function of the prompt, so that a step needs no large groups.

    Args:
        rate: How fast z is learned: what a step of it changes at most, in units of the reward.
    """

    kl_places: ClassVar[tuple[str, ...]] = ("k1-reward",)
    several_epochs: ClassVar[bool] = True
    off_policy: ClassVar[bool] = True
    follows_policy: ClassVar[bool] = True  # its residual is of the current policy
    needs_entropy: ClassVar[bool] = True

    def __init__(self, rate: float = 0.05) -> None:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise ValueError(f"rate: got {rate!r}, allowed: a finite number above 0")
        self.log_z_rate = float(rate)

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return w_h (R - z), z the learned w_h log Z, shape [P, G].

        The trainer has taken z off the rewards.
        """
        return w_h * rewards_PG
