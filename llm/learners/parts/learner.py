"""What a learner is, and what most of them have in common.

All of them take the pseudo-reward of the objective; none restates its formula. Axis letters: P prompts, G samples of
one prompt, R = P G sequences (prompt-major), B rows of a microbatch, T response positions (padded).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.loss import clipped_loss, kl_estimate, kl_loss, reinforce_loss
from sharpen.llm.learners.parts.utility import slopes

if TYPE_CHECKING:
    from torch import Tensor

    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience
    from sharpen.objective import Objective

KL_PLACES = ("k1-reward", "k2-reward", "k3-reward", "k1-loss", "k2-loss", "k3-loss")


class LossInputs(NamedTuple):
    """Constants of the loss, one row per sample of the whole batch.

    Args:
        advantages_R: Shape [R].
        weights_RT: Weight of each token: importance weights of the trainer against the engine, divided by the length
            where the aggregation says so; shape [R, T].
        start_RT: Token log-probabilities before the first update on the batch.
        reference_RT: Token log-probabilities under the reference.
        normalizer: What sums over tokens are divided by; the same in every process.
        w_h: Weight of the KL in the loss.
    """

    advantages_R: Tensor
    weights_RT: Tensor
    start_RT: Tensor
    reference_RT: Tensor
    normalizer: float
    w_h: float


class Learner(Protocol):
    """What moves the policy; :class:`PolicyGradient` has all of it but the advantages.

    What is registered is called with the run's ``learner.options`` by keyword and returns the learner: a class does.
    Its parts are functions of the batch. A learner keeps nothing from step to step, so that a killed run goes on to
    the same numbers, and sees its own process's prompts only, whole groups of G samples. Tensors are on the policy's
    device, log-probabilities in nats, 0 at padding. No part ever sees an answer: only ``batch.rewards_R`` [R], the
    task rewards, which is None if the objective has no reward term.

    Attributes:
        published: Fields of ``LearnerSettings`` that its source sets, where a run does not; may be empty.
        aggregation: The same for the run's ``aggregation``; None leaves it.
        upper_clip: The upper clip if a run has none.
        takes: Which of ``clip_low``, ``clip_high`` and ``rank_penalty`` it reads; a run that gives another is refused.
        kl_places: Values of ``kl`` that make sense.
        several_epochs: Whether more than one update on a batch makes sense.
        off_policy: Whether it may learn from samples at another temperature than 1.
        follows_policy: Whether its rewards are those of the policy at each update of a batch, not before the first.
        needs_entropy: Whether the objective must have an entropy, w_h other than 0.
        needs_reward: Whether it must have a task reward. One that does has ``reward_advantages(settings, objective,
            rewards_PG)``, those of the task rewards, shape [P, G], which are added to :meth:`advantages` of the rest.
        own_utility: A utility that these stand for, so that the objective may name it: ``log``, or ``pass@K``, which it
            then must.
        takes_utilities: Whether its advantages may be multiplied by a slope for each sample: they are linear in the
            rewards, and but for a factor a sample's reward less one of the others'.
        resamples: Whether a step takes rounds of rollouts, ``dynamic_rounds`` at most, until it has enough groups that
            :meth:`keeps` keeps.
        by_group: Whether rewards and advantages of a group depend on that group alone, so that it can be learned from
            before the others have been scored. A learner without this attribute does without.
        log_z_rate: How fast a constant of each prompt is learned that is taken off its rewards before
            :meth:`advantages`, see :class:`sharpen.llm.training.log_z.LogZ`; None, or no such attribute: there is none.
    """

    published: Mapping[str, Any]
    aggregation: str | None
    upper_clip: float
    takes: frozenset[str]
    kl_places: tuple[str, ...]
    several_epochs: bool
    off_policy: bool
    follows_policy: bool
    needs_entropy: bool
    needs_reward: bool
    own_utility: str | None
    takes_utilities: bool
    resamples: bool
    by_group: bool
    log_z_rate: float | None

    def rewards(self, settings: LearnerSettings, objective: Objective, batch: Experience, policy_RT: Tensor) -> Tensor:
        """Return the reward of each sample as the learner sees it, constants of shape [R].

        Args:
            settings: The run's.
            objective: The run's; its ``pseudo_reward`` has the formula.
            batch: The samples.
            policy_RT: Token log-probabilities under the policy that the KL is of, shape [R, T], no gradient.
        """
        ...

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return the advantage of each sample, constants of shape [P, G].

        Args:
            settings: The run's.
            rewards_PG: What :meth:`rewards` returned, shape [P, G].
            w_h: Weight of the entropy.
        """
        ...

    def keeps(self, batch: Experience, rewards_PG: Tensor) -> list[bool]:
        """Return for each of P prompts whether its group is learned from; asked only if ``resamples``."""
        ...

    def loss(
        self, settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Return the loss of some rows, a scalar; those of all rows add up to the batch's.

        Args:
            settings: The run's.
            inputs: Constants of the whole batch; its T may be longer than that of these rows.
            rows: Which rows these are, B of R.
            logprobs_BT: Their token log-probabilities, shape [B, T], with gradient.
            mask_BT: True at response tokens, same shape.
        """
        ...


class PolicyGradient(ABC):
    """REINFORCE's loss on the learner's reward, one update per batch; a subclass says what the advantages are."""

    published: ClassVar[Mapping[str, Any]] = {}
    aggregation: ClassVar[str | None] = None
    upper_clip: ClassVar[float] = 0.2
    takes: ClassVar[frozenset[str]] = frozenset()
    kl_places: ClassVar[tuple[str, ...]] = KL_PLACES
    several_epochs: ClassVar[bool] = False
    off_policy: ClassVar[bool] = False
    follows_policy: ClassVar[bool] = False
    needs_entropy: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = False
    own_utility: ClassVar[str | None] = None
    takes_utilities: ClassVar[bool] = False
    resamples: ClassVar[bool] = False
    by_group: ClassVar[bool] = False
    log_z_rate: float | None = None

    def rewards(self, settings: LearnerSettings, objective: Objective, batch: Experience, policy_RT: Tensor) -> Tensor:
        """Return the reward of each sample, shape [R].

        With ``k1-reward`` that is the pseudo-reward u - w_h log pi. The other estimators replace its KL pair
        w_h (log p - log pi) by -w_h times their sum over the tokens, or leave it to the loss.
        """
        import torch

        reference_R, policy_R = batch.reference_R, policy_RT.sum(dim=1)
        given = {
            "slope": slopes(objective, batch),
            "reward": batch.rewards_R,
            "ref_logprob": reference_R,
            "length": torch.tensor(batch.lengths, device=policy_R.device),
        }
        without_kl = objective.pseudo_reward(policy_logprob=reference_R, **given)  # log p - log p = 0
        name, _, place = settings.kl.partition("-")
        if name == "k1" and place == "reward":
            kl_part = objective.pseudo_reward(policy_logprob=policy_R, **given) - without_kl
        elif place == "reward":
            tokens_RT = kl_estimate(name, policy_RT - batch.reference_RT).masked_fill(~batch.policy.mask_BT, 0.0)
            kl_part = -objective.coefficients.w_h * tokens_RT.sum(dim=1)
        else:
            kl_part = torch.zeros_like(without_kl)
        return (self.without_kl(settings, batch, without_kl) + kl_part).detach()

    def without_kl(self, settings: LearnerSettings, batch: Experience, rewards_R: Tensor) -> Tensor:
        """Return what a learner makes of the pseudo-reward without its KL, shape [R]: here, itself."""
        return rewards_R

    @abstractmethod
    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return the advantage of each sample, shape [P, G]; see :class:`Learner`."""

    def keeps(self, batch: Experience, rewards_PG: Tensor) -> list[bool]:
        """Return whether each prompt's group is learned from: every one."""
        return [True] * len(rewards_PG)

    def loss(
        self, settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Return the loss of some rows: the policy's part and, where ``kl`` puts it there, the KL's."""
        T = mask_BT.shape[1]
        weights = inputs.weights_RT[rows, :T]
        loss = self.policy_loss(settings, inputs, rows, logprobs_BT, mask_BT)
        name, _, place = settings.kl.partition("-")
        if place == "loss" and inputs.w_h != 0.0:
            reference = inputs.reference_RT[rows, :T]
            loss = loss + inputs.w_h * kl_loss(name, logprobs_BT, reference, weights, mask_BT, inputs.normalizer)
        return loss

    def policy_loss(
        self, settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Return the part of the loss that the advantages are in; arguments as of :meth:`Learner.loss`."""
        weights, A = inputs.weights_RT[rows, : mask_BT.shape[1]], inputs.advantages_R[rows]
        return reinforce_loss(logprobs_BT, A, weights, mask_BT, inputs.normalizer)


class Clipped(PolicyGradient):
    """A learner whose loss is PPO's clipped surrogate (Schulman 2017): several updates on a batch make sense."""

    takes: ClassVar[frozenset[str]] = frozenset({"clip_low", "clip_high"})
    several_epochs: ClassVar[bool] = True
    surrogate: ClassVar[Callable[..., Tensor]] = staticmethod(clipped_loss)

    def policy_loss(
        self, settings: LearnerSettings, inputs: LossInputs, rows: list[int], logprobs_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Return the clipped surrogate of some rows."""
        T = mask_BT.shape[1]
        weights, A, start = inputs.weights_RT[rows, :T], inputs.advantages_R[rows], inputs.start_RT[rows, :T]
        low = settings.clip_low
        high = self.upper_clip if settings.clip_high is None else settings.clip_high
        return self.surrogate(logprobs_BT, start, A, weights, mask_BT, inputs.normalizer, low, high)


class Labelled(PolicyGradient):
    """A learner whose advantages are of the task reward alone; the rest, if there is any, is RLOO's.

    So with the task reward r, weight w_r, the mean update is w_r f'(P) grad P and the gradient of the rest of the
    objective: likelihood terms and KL keep their weights, whatever f the learner's advantages of r ascend.
    """

    needs_reward: ClassVar[bool] = True

    @abstractmethod
    def reward_advantages(self, settings: LearnerSettings, objective: Objective, rewards_PG: Tensor) -> Tensor:
        """Return the advantages of task rewards, shape [P, G]."""

    def advantages(self, settings: LearnerSettings, rewards_PG: Tensor, w_h: float) -> Tensor:
        """Return those of the rest of the pseudo-reward, less the mean of the others, shape [P, G]."""
        return leave_one_out(rewards_PG)


class Matching(PolicyGradient):
    """A learner of the ratio of the objective's optimum to the policy that drew the samples, which is no clipped one.

    The ratio holds the KL itself, so the KL has one place; and without entropy there is no optimum to match.
    """

    aggregation: ClassVar[str | None] = "sequence_mean"
    kl_places: ClassVar[tuple[str, ...]] = ("k1-reward",)
    needs_entropy: ClassVar[bool] = True
