"""The passes of one step over policy and reference: log-probabilities of its samples, and gradients from them.

Advantages depend on log pi, so that samples are scored before they are learned from. Three ways lead to the same
gradient:

``no``      two passes: every microbatch is scored without a graph, and computed again for its gradient
``step``    one pass: scoring keeps the graphs of all microbatches, where the step is small (``graph_tokens``)
``groups``  one pass: whole groups share a microbatch, whose graph gives log pi, and the gradient as soon as log pi has
            given the group's advantages

Axis letters: P prompts, G samples of one prompt, R = P G sequences (prompt-major), B rows of a microbatch, T response
positions (padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.distributed.memory import graph_tokens, shape_of
from sharpen.llm.distributed.sharding import is_sharded
from sharpen.llm.distributed.world import World
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.parts.learner import LossInputs
from sharpen.llm.learners.parts.loss import Mismatch, aggregated, importance_weights
from sharpen.llm.learners.parts.utility import advantages
from sharpen.llm.models.finite import require_finite
from sharpen.llm.models.logprobs import TokenLogprobs, batches_for, response_logprobs, token_logprobs, unbatch
from sharpen.llm.models.shared_prefix import response_mask
from sharpen.llm.models.weights import compute_device, without_adapters
from sharpen.llm.passes.groups import Window, positions, windows_for
from sharpen.llm.rollout.agreement import require_agreement

if TYPE_CHECKING:
    from sharpen.llm.rewards.firewall import BoundReward
    from sharpen.llm.rollout import Rollout
    from sharpen.llm.training.reference import Reference


class Scored(NamedTuple):
    """What scoring finds; see :class:`~sharpen.llm.learners.experience.Experience` for each."""

    policy: TokenLogprobs
    reference_RT: Tensor
    mismatch: Mismatch
    graph_RT: Tensor | None


class Passes:
    """Passes over one policy and its reference.

    Args:
        config: The run.
        model: The policy.
        reference: The reference policy.
        world: The processes that train together.
        compute: Dtype of the passes.
    """

    def __init__(
        self, config: TrainConfig, model: Any, reference: Reference, world: World, compute: torch.dtype
    ) -> None:
        self.config, self.model, self.reference, self.world, self.compute = config, model, reference, world, compute
        self.learner = config.learner.learner
        self.graph_tokens = graph_tokens(config, partial(shape_of, without_adapters(model).config), compute)
        # A sharded model would have to keep its gathered weights; who resamples learns from some rounds' groups.
        self._keeps = not self.learner.resamples and not is_sharded(model)
        wanted = config.one_pass == "always" or compute_device(model).type != "cpu"
        self._groups = wanted and config.may_learn_by_group and not drops(model)
        self._batching: dict[str, Any] = {
            "micro_batch_tokens": config.tokens_per_microbatch,
            "share_prompts": config.share_prompts,
        }

    def logprobs(self, rollout: Rollout, **options: Any) -> TokenLogprobs:
        """Return what the policy says about the responses; options as of ``token_logprobs``."""
        rows = (rollout.prompt_ids, rollout.response_ids)
        return token_logprobs(self.model, *rows, same_passes=self.world.most, **self._batching, **options)

    def reference_logprobs(self, rollout: Rollout, windows: Sequence[Window] | None) -> Tensor | None:
        """Return the reference's token log-probabilities, shape [R, T]; None if they are the policy's.

        In the batches of the windows, if there are any: a row's rounding depends on the batch that it is in, and log pi
        - log p is to be 0 where the two are the same.
        """
        if not self.reference.differs:
            return None
        batches = None if windows is None else [batch for window in windows for batch in window.callers()]
        return self.reference.logprobs(rollout, same_passes=self.world.most, batches=batches, **self._batching)

    def windows(self, rollout: Rollout, reward: BoundReward | None) -> list[Window] | None:
        """Return the groups that are learned from together if one pass does; None if they are to be scored first.

        One pass does where rewards can be known before it and each group fits a microbatch; unless ``one_pass`` is
        ``always``, not on a CPU, where the smaller batches of groups were measured to cost more than a second pass, and
        only where the padding of whole groups costs less than one. In every process, or none does it.
        """
        if not self._groups or (reward is not None and reward.reads_entropies):
            return None
        rows, G = (rollout.prompt_ids, rollout.response_ids), self.config.samples_per_prompt
        apart = positions(self.model, *rows, **self._batching)
        found = None
        if not (self._keeps and apart <= self.graph_tokens):
            found = windows_for(self.model, *rows, group_size=G, one_batch=is_sharded(self.model), **self._batching)
        together = None if found is None else sum(window.tokens for window in found)
        everyones = self.world.gather([(apart, together)])
        if any(tokens is None for _, tokens in everyones):
            return None
        backward = 3 if self.config.gradient_checkpointing else 2  # forward passes that a backward pass costs
        one = sum(tokens or 0 for _, tokens in everyones) * (1 + backward)
        two = sum(tokens for tokens, _ in everyones) * (2 + backward)
        return found if self.config.one_pass == "always" or one < two else None

    def score(self, rollout: Rollout, reference_RT: Tensor | None, engine: str | None) -> Scored:
        """Return what policy and reference say about the responses, and how far the engine is from the policy.

        Args:
            rollout: R samples.
            reference_RT: What :meth:`reference_logprobs` returned; None takes the policy's.
            engine: Name of the engine that sampled them; None: they are an earlier policy's, so that it may differ.

        Raises:
            WeightSyncError: the engine samples from another policy than the one being trained.
        """
        own = self.logprobs(rollout, with_entropy=True, graph_tokens=self.graph_tokens if self._keeps else 0)
        policy = own._replace(logprobs_BT=own.logprobs_BT.detach())
        sampled_from, temperature = policy.logprobs_BT, self.config.temperature
        if temperature != 1.0:
            sampled_from = self.logprobs(rollout, temperature=temperature).logprobs_BT
        mismatch = self._mismatch(sampled_from, sampler_logprobs(rollout, policy), policy.mask_BT)
        self._require_agreement(mismatch, engine)
        graph_RT = own.logprobs_BT if own.logprobs_BT.requires_grad else None
        return Scored(policy, policy.logprobs_BT if reference_RT is None else reference_RT, mismatch, graph_RT)

    def learn(
        self, batch: Experience, reference_RT: Tensor | None, windows: Sequence[Window], engine: str | None
    ) -> Experience:
        """Score the samples and add the gradient of the first update, in one pass over whole groups.

        Args:
            batch: R samples that :func:`unscored` made.
            reference_RT: What :meth:`reference_logprobs` returned; None takes the policy's.
            windows: What :meth:`windows` returned.
            engine: Name of the engine that sampled them; None: they are an earlier policy's, so that it may differ.

        Returns:
            The samples with their scores, and the loss whose gradient has been added.

        Raises:
            WeightSyncError: the engine samples from another policy than the one being trained.
            NonFiniteError: the model gives a response a probability that is no number.
        """
        scored, sampler_RT = batch.policy, sampler_logprobs(batch.rollout, batch.policy)
        reference_RT = scored.logprobs_BT if reference_RT is None else reference_RT  # filled below, window by window
        batch = replace(batch, reference_RT=reference_RT)
        sampled_from_RT = torch.zeros_like(sampler_RT)
        normalizer, total = self.normalizer(batch), 0.0
        for place in range(self.world.most(len(windows))):
            window = windows[min(place, len(windows) - 1)]
            rows = window.rows
            sampled_from_BT, entropy_BT, graph_BT = self._pass(window, scored.mask_BT.shape[1])
            if place >= len(windows):  # another process has more: take part in its collectives, add nothing
                (0.0 * graph_BT.sum()).backward()
                continue
            scored.logprobs_BT[rows], sampled_from_RT[rows] = graph_BT.detach(), sampled_from_BT
            scored.entropy_BT[rows] = entropy_BT  # type: ignore[index]
            own = batch.take(window.prompts)
            own = replace(own, mismatch=self._mismatch(sampled_from_BT, sampler_RT[rows], own.policy.mask_BT))
            inputs = self.inputs(own, own.policy.logprobs_BT, normalizer)
            loss = self.learner.loss(self.config.learner, inputs, list(range(len(rows))), graph_BT, own.policy.mask_BT)
            (loss * self.world.size).backward()
            total += float(loss.detach())
        require_finite("log-probabilities", scored.logprobs_BT, f"responses under {type(self.model).__name__}")
        mismatch = self._mismatch(sampled_from_RT, sampler_RT, scored.mask_BT)
        self._require_agreement(mismatch, engine)
        return replace(batch, mismatch=mismatch, first_loss=total)

    def _pass(self, window: Window, T: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return log pi of the tempered policy, entropies, and log pi with its graph, of a window's rows, [B, T]."""
        tempered = []
        if self.config.temperature != 1.0:
            with torch.no_grad():
                options: dict[str, Any] = {"temperature": self.config.temperature}
                tempered = [response_logprobs(self.model, part, **options).logprobs_BT for part in window.batches]
        parts = [response_logprobs(self.model, part, with_entropy=True) for part in window.batches]
        whole = partial(_padded, window, T)
        graph_BT = whole([part.logprobs_BT for part in parts])
        entropy_BT = whole([part.entropy_BT for part in parts if part.entropy_BT is not None])
        return whole(tempered) if tempered else graph_BT.detach(), entropy_BT, graph_BT

    def rewards(self, batch: Experience, policy_RT: Tensor | None = None) -> Tensor:
        """Return the learner's rewards, shape [R]."""
        policy_RT = batch.policy.logprobs_BT if policy_RT is None else policy_RT
        return self.learner.rewards(self.config.learner, self.config.objective, batch, policy_RT)

    def normalizer(self, batch: Experience) -> int:
        """Return what sums over tokens are divided by, the same in every process."""
        lengths = torch.tensor(batch.lengths, device=self.model.device)
        _, units = aggregated(self.config.aggregation, batch.mismatch.weights_BT, lengths)
        return max(1, sum(self.world.gather([0 if batch.stand_in else units])))

    def inputs(self, batch: Experience, policy_RT: Tensor, normalizer: int) -> LossInputs:
        """Return the constants of an update's loss.

        Args:
            batch: The samples.
            policy_RT: Token log-probabilities under the policy that the KL is of, shape [R, T].
            normalizer: What :meth:`normalizer` returned.
        """
        config, lengths = self.config, torch.tensor(batch.lengths, device=self.model.device)
        pseudo_R = self.rewards(batch, policy_RT)
        return LossInputs(
            advantages(self.learner, config.learner, config.objective, batch, pseudo_R).flatten(),
            aggregated(config.aggregation, batch.mismatch.weights_BT, lengths)[0],
            batch.policy.logprobs_BT,
            batch.reference_RT,
            normalizer,
            config.objective.coefficients.w_h,
        )

    def backward(self, batch: Experience, inputs: LossInputs, kept: Tensor | None) -> float:
        """Add the gradient of this process's part of the loss and return that part.

        Through the graph that scoring kept, or through a new one of each microbatch.
        """
        if kept is not None:
            everyone = list(range(len(batch.texts)))
            loss = self.learner.loss(self.config.learner, inputs, everyone, kept, batch.policy.mask_BT)
            (loss * self.world.size).backward()
            return float(loss.detach())
        rows = (batch.rollout.prompt_ids, batch.rollout.response_ids)
        batches = batches_for(self.model, *rows, **self._batching)
        total, counted = 0.0, 0 if batch.stand_in else len(batches)
        for place in range(self.world.most(len(batches))):
            part = batches[min(place, len(batches) - 1)]
            logprobs, _, mask = response_logprobs(self.model, part)
            if place < counted:
                loss = self.learner.loss(self.config.learner, inputs, part.rows, logprobs, mask)
            else:  # another process has more: take part in its collectives, add nothing
                loss = 0.0 * logprobs.sum()
            total += float(loss.detach())
            (loss * self.world.size).backward()  # sharded gradients are averaged over processes
        return total

    def _mismatch(self, policy_BT: Tensor, sampler_BT: Tensor, mask_BT: Tensor) -> Mismatch:
        return importance_weights(policy_BT, sampler_BT, mask_BT, self.config.importance_cap, self.config.importance)

    def _require_agreement(self, mismatch: Mismatch, engine: str | None) -> None:
        if engine is None:
            return
        errors = torch.cat(self.world.gather([mismatch.errors_N]))  # everyone's, so that all processes raise or none
        require_agreement(engine, errors, self.compute, self.config.engine_tolerance)


def unscored(chosen: list[int], rollout: Rollout, texts: list[str], rewards_R: Tensor | None, model: Any) -> Experience:
    """Return samples that nobody has scored: log-probabilities and entropies are zeros to be filled.

    Args:
        chosen: As of :class:`~sharpen.llm.learners.experience.Experience`, as are the others of these names.
        rollout: See there.
        texts: See there.
        rewards_R: See there.
        model: The policy.
    """
    mask_RT = response_mask(torch.tensor([len(ids) for ids in rollout.response_ids], device=model.device))
    precise = torch.float64 if model.dtype == torch.float64 else torch.float32
    zeros_RT = torch.zeros(mask_RT.shape, dtype=precise, device=model.device)
    policy = TokenLogprobs(zeros_RT, zeros_RT.clone(), mask_RT)
    nothing = importance_weights(zeros_RT, zeros_RT, mask_RT, 1.0)
    return Experience(chosen, rollout, texts, policy, zeros_RT, nothing, rewards_R)


def sampler_logprobs(rollout: Rollout, like: TokenLogprobs) -> Tensor:
    """Return the engine's token log-probabilities, shape [R, T] with zeros outside the mask."""
    sampler_RT = torch.zeros_like(like.logprobs_BT)
    given = [logprob for row in rollout.logprobs for logprob in row]
    sampler_RT[like.mask_BT] = torch.tensor(given, dtype=sampler_RT.dtype, device=sampler_RT.device)
    return sampler_RT


def drops(model: Any) -> bool:
    """Return whether two passes of the model differ because it drops parts of itself at random (dropout)."""
    if not any(module.training for module in model.modules()):
        return False
    settings = model.config.to_dict().items()
    by_config = any("drop" in name and isinstance(share, float) and share > 0 for name, share in settings)
    return by_config or any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())


def _padded(window: Window, T: int, arrays_BT: list[Tensor]) -> Tensor:
    found = unbatch(window.batches, arrays_BT)
    return torch.nn.functional.pad(found, (0, T - found.shape[1]))
