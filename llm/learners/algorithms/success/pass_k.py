"""Pass@k training (Chen 2025, arXiv 2508.10751) with its analytical advantages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sharpen.llm.learners.parts.advantage import of_subsets
from sharpen.llm.learners.parts.learner import Labelled
from sharpen.objective.counts import least_samples

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.objective import Objective


class PassK(Labelled):
    """GRPO on sets of K samples: each sample has the mean advantage of the sets that it is in; K is the utility's.

    Like GRPO's, these are divided by a standard deviation, so what they ascend is not pass@K; that is what ``rloo``
    with the utility ``pass@K`` ascends, without bias. Groups without K wrong samples are not learned from.
    """

    own_utility: ClassVar[str | None] = "pass@K"
    by_group: ClassVar[bool] = True

    def reward_advantages(self, settings: LearnerSettings, objective: Objective, rewards_PG: Tensor) -> Tensor:
        """Return the mean standardised reward of the K-subsets with the sample, shape [P, G]."""
        return of_subsets(rewards_PG, least_samples(objective.utility))
