"""Utilities of the success rate, and learners with advantages of the task reward alone.

Every group is one prompt, so f of its success rate is estimated from its samples, each sample's slope from the others
(:func:`sharpen.objective.counts.utility_slopes`): the gradient is without bias for the polynomial f_G that stands for f
in groups of G, which is f itself for pass@K with K <= G. Axis letters: P prompts, G samples of one prompt, R = P G.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharpen.objective import InputError
from sharpen.objective.counts import utility_slopes

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience
    from sharpen.llm.learners.parts.learner import Learner
    from sharpen.objective import Objective


def slopes(objective: Objective, batch: Experience) -> Tensor | None:
    """Return the estimate of f'(P) of each sample from the others of its group, shape [R]; None for the identity.

    Raises:
        InputError: the objective has a utility or an exponent of right answers, and a reward is not from 0 to 1.
    """
    import torch

    if objective.is_plain or batch.rewards_R is None:
        return None
    wrong = batch.rewards_R[~((batch.rewards_R >= 0) & (batch.rewards_R <= 1))]
    if len(wrong):
        what = "a utility of the success rate" if objective.alpha_right is None else "an exponent of right answers"
        raise InputError("reward", float(wrong[0]), f"0 to 1 with {what}")
    if objective.utility == "identity":
        return None
    rewards_PG = batch.grouped(batch.rewards_R)
    found = utility_slopes(objective.utility, rewards_PG.double().cpu().numpy())
    return torch.tensor(found).to(rewards_PG).flatten()


def advantages(
    learner: Learner, settings: LearnerSettings, objective: Objective, batch: Experience, rewards_R: Tensor
) -> Tensor:
    """Return the advantages of a batch, shape [P, G].

    Mostly those that the learner makes of its rewards, less what was learned of log Z where it asks for that. The task
    reward stands apart from the rest, and is added,

    - with a utility, where each sample's advantage is multiplied by its slope: a baseline of rewards that are weighted
      already would hold the sample's own reward in the others' slopes, which is a bias;
    - for a learner that has ``reward_advantages``, where those are what is added, with a utility or without.

    Args:
        learner: The run's.
        settings: Its settings.
        objective: The run's.
        batch: The samples.
        rewards_R: What ``learner.rewards`` returned, shape [R].
    """
    w, task_R = objective.coefficients, batch.rewards_R
    if batch.log_z_P is not None:
        rewards_R = (batch.grouped(rewards_R) - batch.log_z_P[:, None]).flatten()
    own: Any = getattr(learner, "reward_advantages", None)
    slope_R = slopes(objective, batch)
    if task_R is None or w.w_r == 0.0 or (own is None and slope_R is None):
        return learner.advantages(settings, batch.grouped(rewards_R), w.w_h)
    task_PG = batch.grouped(task_R)
    gain_R = task_R if slope_R is None else slope_R * task_R
    rest_PG = learner.advantages(settings, batch.grouped(rewards_R - w.w_r * gain_R), w.w_h)
    if own is not None:
        return rest_PG + w.w_r * own(settings, objective, task_PG)
    assert slope_R is not None  # without both the whole was returned above
    return rest_PG + w.w_r * batch.grouped(slope_R) * learner.advantages(settings, task_PG, w.w_h)
