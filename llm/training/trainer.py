"""One step of policy-gradient training of a language model, top to bottom.

Axis letters: P prompts, G samples of one prompt, R = P G sequences (prompt-major), T response positions (padded).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sharpen.llm.common.schedule import ROLLOUT, derive_seed, prompt_indices
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.distributed import optimizer as steps
from sharpen.llm.distributed.sharding import average_gradients, is_sharded
from sharpen.llm.distributed.world import World
from sharpen.llm.learners.certainty import self_certainty
from sharpen.llm.learners.experience import Experience, joined
from sharpen.llm.models.finite import in_step
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.models.weights import compute_device
from sharpen.llm.passes.policy import Passes, unscored
from sharpen.llm.rewards.firewall import BoundReward, Scoring
from sharpen.llm.rollout import Engine, Rollout, Sampling
from sharpen.llm.rollout.requests import noise_for, row_seed
from sharpen.llm.tasks.data import PromptSet
from sharpen.llm.tasks.templates import encode_all, stops
from sharpen.llm.training.ahead import Ahead, Batch, stored
from sharpen.llm.training.log_z import LogZ
from sharpen.llm.training.master import MasterWeights
from sharpen.llm.training.record import mismatch_metrics, rows_of, sample_metrics, some_samples
from sharpen.llm.training.reference import Reference, make_reference
from sharpen.llm.training.state import (
    Tensors,
    load_optimizer_state,
    load_parameters,
    optimizer_state,
    parameters,
    require_finite_policy,
)
from sharpen.objective import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Trainer:
    """Trains a policy towards the objective of ``config``.

    It is given prompts, which carry no answers, and, only if the objective has a reward term, a reward.

    Args:
        config: Settings; only those of the training loop are read here.
        model: The policy, updated in place; sharded already if it is to be.
        tokenizer: Encodes prompts, decodes responses.
        engine: Samples responses from the policy.
        prompts: Training prompts.
        reward: The run's reward; None exactly when the objective has no reward term.
        template: Prompt template.
        reference: The reference policy; made of the model if not given.
        world: The processes that train together.
        compute: Dtype of the model's passes; None: that of its weights.
        master: The weights that the optimizer updates where the model's own are rounded; None: the model's.
        prompt_ids: The prompts' token ids, where they are known.

    Raises:
        InputError: a prompt leaves no room for a response.
        ValueError: a reward is given to an objective without one, or the reverse.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        engine: Engine,
        prompts: PromptSet,
        reward: BoundReward | None,
        template: str,
        *,
        reference: Reference | None = None,
        world: World | None = None,
        compute: torch.dtype | None = None,
        master: MasterWeights | None = None,
        prompt_ids: Sequence[list[int]] | None = None,
    ) -> None:
        if (reward is not None) != config.objective.needs_reward:
            raise ValueError(f"reward: got {reward}, allowed: one exactly if the objective has a reward term")
        self.config, self.model, self.tokenizer, self.engine = config, model, tokenizer, engine
        self.learner = config.learner.learner
        self.prompts, self.reward, self.world = prompts, reward, world or World()
        asked = (template, config.chat_options)
        texts = [prompt.text for prompt in prompts.prompts]
        self.stop = stops(template)
        self.prompt_ids = encode_all(tokenizer, texts, *asked) if prompt_ids is None else prompt_ids
        longest = max(len(ids) for ids in self.prompt_ids)
        if longest >= config.max_length:
            raise InputError(
                "max_length", config.max_length, f"more than the longest training prompt, {longest} tokens"
            )
        self.share = self.world.share(config.prompts_per_step)  # which of a step's prompts are this process's
        self.step_index = 0
        self.compute, self.master = compute or model.dtype, master
        self.trained: Any = master or model  # the weights as precise as they are known
        self.reference = reference or make_reference(config.objective, model)
        self.passes = Passes(config, model, self.reference, self.world, self.compute)
        weights = [weight for _, weight in self.trained.named_parameters() if weight.requires_grad]
        self.optimizer = steps.make_optimizer(config.optimizer, weights, fused=master is not None)
        self.next: Batch | None = None  # of the step that begins next, where it was sampled ahead
        self.ahead = Ahead(engine, self.world, compute_device(model)) if config.sample_ahead else None
        rate = getattr(self.learner, "log_z_rate", None)
        self.log_z = None if rate is None else LogZ(model, rate, self.world)

    def step(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Sample, score, update the policy and hand it to the engine.

        Returns:
            The step's metrics (docs/llm.md defines each) and a few of its samples.

        Raises:
            WeightSyncError: the engine samples from another policy than the one being trained.
            NonFiniteError: a logit, log-probability or gradient is NaN or infinite; the weights are as they were.
        """
        try:
            with in_step(self.step_index + 1, self.config.optimizer, self.compute):
                return self._step()
        except BaseException:  # Ctrl-C too: no thread goes on sampling for a step that will not come
            if self.ahead is not None:
                self.ahead.abandon()
            raise

    def _step(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        seconds: dict[str, float] = {"rollout": 0.0, "logprobs": 0.0, "reward": 0.0}
        self.optimizer.zero_grad(set_to_none=True)  # a step that raised may have left some
        seen, batch, rounds = self._collect(seconds)
        with _timed(seconds, "update"):
            update = self._update(batch)
        coming = self._coming(seconds)
        with _timed(seconds, "push"):
            self.engine.push_weights(self.model)
            self.reference.after_update(self.step_index + 1)
        pseudo_R = self.passes.rewards(seen)
        record = {
            "step": self.step_index,
            **sample_metrics(
                *(self.world.gather(rows_of(seen, pseudo_R)), seen.group_size, self.config.reward.kind),
                against_reference=self._measures_reference(),
            ),
            **mismatch_metrics(seen.mismatch, self.world),
            **update,
        }
        record["one_pass"] = "groups" if batch.first_loss is not None else "no" if batch.graph_RT is None else "step"
        if self.learner.resamples:
            groups = 0 if batch.stand_in else len(batch.chosen)
            record |= {"rollout_rounds": rounds, "groups": sum(self.world.gather([groups]))}
        if self.ahead is not None:
            record["staleness"] = 0 if self.next is None else self.next.staleness
            if record["staleness"]:  # the engine's scores are another policy's, and say nothing about noise
                record["effective_alpha_reliability"] = None
        seconds["total"] = sum(seconds.values())
        if coming is not None and self.ahead is not None:
            seconds["ahead"] = self.ahead.seconds  # beside the others
        samples = some_samples(seen, pseudo_R, self.prompts, self.step_index)
        self.step_index += 1
        self.next = coming
        return {**record, "seconds": seconds}, samples

    def state(self) -> tuple[dict[str, Tensors], dict[str, Any]]:
        """Return what a resumed run needs besides the policy's files; random streams are functions of the step.

        Every process has to call it; the tensors are on the first one's CPU.

        Raises:
            NonFiniteError: the policy is not fit to be kept: a weight, or what it says about a prompt, is NaN.
        """
        with in_step(self.step_index, self.config.optimizer, self.compute):
            require_finite_policy(self.model, self.prompt_ids[0], self.world)
        keep = self.world.first
        tensors = {"optimizer": optimizer_state(self.optimizer, self.trained, keep=keep)}
        if self.reference.model is not None:
            tensors["reference"] = parameters(self.reference.model, keep=keep)
        if self._files_are_rounded():
            tensors["policy"] = parameters(self.trained, keep=keep, trained_only=True)
        if self.log_z is not None:
            tensors["log_z"] = self.log_z.state()
        if self.next is not None:
            tensors["next"] = self.next.tensors(self.world)
        return tensors, {"step": self.step_index}

    def load_state(self, tensors: dict[str, Tensors], numbers: dict[str, Any], weights: Tensors, where: str) -> None:
        """Take up the state that :meth:`state` returned.

        Args:
            tensors: See there.
            numbers: See there.
            weights: The policy's stored weights.
            where: Named in errors.

        Raises:
            InputError: the state is another model's.
        """
        goes_on = self.ahead is not None and int(numbers["step"]) < self.config.steps
        also = {"reference": self.reference.model, "log_z": self.log_z, "next": self.ahead if goes_on else None}
        for name in ("optimizer", *(name for name, part in also.items() if part is not None)):
            if name not in tensors:
                raise InputError("checkpoint", where, f"one with {name}.safetensors")
        if "policy" in tensors:
            load_parameters(self.trained, tensors["policy"], where, trained_only=True)
        else:
            own = {name for name, _ in self.trained.named_parameters()}
            load_parameters(self.trained, {name: weights[name] for name in own & weights.keys()}, where)
        load_optimizer_state(self.optimizer, self.trained, tensors["optimizer"], where)
        if self.reference.model is not None:
            load_parameters(self.reference.model, tensors["reference"], where)
        if self.log_z is not None:
            self.log_z.load_state(tensors["log_z"], where)
        self._round_weights()
        self.step_index = int(numbers["step"])
        if goes_on:
            chosen, G = self._chosen(self.step_index), self.config.samples_per_prompt
            rows = range(self.share.start * G, self.share.stop * G)
            prompts = [self.prompt_ids[index] for index in chosen for _ in range(G)]
            self.next = stored(tensors["next"], chosen, prompts, rows, where)
        self.engine.push_weights(self.model)

    def _files_are_rounded(self) -> bool:
        """Whether the policy's files cannot give back what is trained: they hold less precise or merged weights."""
        rounded = self.master is not None or self.compute != self.model.dtype
        return rounded or hasattr(self.model, "peft_config")

    def _collect(self, seconds: dict[str, float]) -> tuple[Experience, Experience, int]:
        """Return the step's samples, those that it learns from, and how many rounds of rollouts they took.

        One round, and all of its samples; or for a learner that resamples rounds until it keeps enough groups of all
        processes, and the first of those groups, so that the step does not depend on how many processes share it.
        """
        settings, needed = self.config.learner, self.config.prompts_per_step
        if not self.learner.resamples:
            batch = self._round(self.step_index, seconds)
            return batch, batch, 1
        seen: list[Experience] = []
        kept: list[bool] = []  # of every prompt of every round, in the order of the whole batches
        while len(seen) < settings.dynamic_rounds and sum(kept) < needed:
            batch = self._round(self.step_index * settings.dynamic_rounds + len(seen), seconds)
            kept += self.world.gather(self.learner.keeps(batch, batch.grouped(self.passes.rewards(batch))))
            seen.append(batch)
        places = [divmod(place, needed) for place, keeps in enumerate(kept) if keeps][:needed]
        own = [round_ * len(self.share) + self.share.index(place) for round_, place in places if place in self.share]
        everything = joined(seen)
        return everything, everything.take(own), len(seen)

    def _round(self, round_index: int, seconds: dict[str, float]) -> Experience:
        with _timed(seconds, "rollout"):
            chosen, rollout, stale = self.next or Batch(*self._sample(round_index))
            if self.ahead is None:
                self.engine.sleep()  # its memory is the trainer's until the push
            elif self.step_index + 1 < self.config.steps:
                attempt = getattr(self.engine, "attempt", self.engine.generate)
                self.ahead.start(partial(self._sample, self.step_index + 1, attempt))
        engine = None if stale else self.engine.name  # which has to agree with the policy
        with _timed(seconds, "logprobs"):
            windows = self.passes.windows(rollout, self.reward)
            reference_RT = self.passes.reference_logprobs(rollout, windows) if self._measures_reference() else None
            scored = None
            if windows is None:
                scored = self.passes.score(rollout, reference_RT, engine)
        with _timed(seconds, "reward"):
            texts = self.tokenizer.batch_decode(rollout.response_ids, skip_special_tokens=True)
            rewards_R = self._rewards(chosen, rollout, texts, None if scored is None else scored.policy)
        if scored is not None:
            policy, reference_RT, mismatch, graph_RT = scored
            return Experience(chosen, rollout, texts, policy, reference_RT, mismatch, rewards_R, graph_RT)
        assert windows is not None
        with _timed(seconds, "update"):
            batch = unscored(chosen, rollout, texts, rewards_R, self.model)
            return self.passes.learn(batch, reference_RT, windows, engine)

    def _coming(self, seconds: dict[str, float]) -> Batch | None:
        """Return the next step's samples, which have been drawn beside this step; None without sampling ahead."""
        if self.ahead is None or self.step_index + 1 == self.config.steps:
            return None
        with _timed(seconds, "wait"):
            return self.ahead.finish(partial(self._sample, self.step_index + 1))

    def _chosen(self, round_index: int) -> list[int]:
        """Return which training prompts of a round are this process's."""
        config = self.config
        everyones = prompt_indices(len(self.prompt_ids), config.prompts_per_step, round_index, config.seed)
        return [everyones[place] for place in self.share]

    def _sample(self, round_index: int, generate: Callable[..., Rollout] | None = None) -> tuple[list[int], Rollout]:
        config, chosen = self.config, self._chosen(round_index)
        prompts = [self.prompt_ids[index] for index in chosen]
        # The engine cuts every response where prompt and response together fill max_length.
        room = config.max_length - min(len(ids) for ids in prompts)
        noise = noise_for(config.rollout_noise, self.engine.name, self.model.device.type)
        sampling = Sampling(room, config.temperature, ignore_eos=config.ignore_eos, stop=self.stop, noise=noise)
        seed, G = derive_seed(config.seed, ROLLOUT, round_index), config.samples_per_prompt
        # By the prompt's place in the whole batch, so that samples do not depend on the number of processes.
        row_seeds = [row_seed(seed, place, sample) for place in self.share for sample in range(G)]
        generate = generate or self.engine.generate
        return chosen, generate(prompts, G, sampling, seed, row_seeds=row_seeds)

    def _measures_reference(self) -> bool:
        """Whether this step's reference log-probabilities are computed; else those of the policy stand in for them."""
        return self.config.objective.reads_reference or self.step_index % self.config.reference_every == 0

    def _rewards(
        self, chosen: list[int], rollout: Rollout, texts: list[str], policy: TokenLogprobs | None
    ) -> Tensor | None:
        if self.reward is None:
            return None
        names = [self.prompts.prompts[index].id for index in chosen for _ in range(self.config.samples_per_prompt)]
        entropies = None
        if policy is not None:
            assert policy.entropy_BT is not None
            entropies = (policy.entropy_BT.sum(dim=1) / policy.mask_BT.sum(dim=1).clamp(min=1)).tolist()
        certainties = None
        if self.reward.needs_certainties:
            rows = (rollout.prompt_ids, rollout.response_ids)
            certainties = self_certainty(self.model, *rows, same_passes=self.world.most)
        first = self.share.start * self.config.samples_per_prompt
        scoring = Scoring(
            step=self.step_index,
            rows=range(first, first + len(texts)),
            groups=[row // self.config.samples_per_prompt for row in range(len(texts))],
            finished=rollout.finished,
            lengths=[len(ids) for ids in rollout.response_ids],
            entropies=entropies,
            certainties=certainties,
        )
        return torch.tensor(self.reward(names, texts, scoring), device=self.model.device)

    def _update(self, batch: Experience) -> dict[str, float | None]:
        """Make the updates of one batch; return the last one's loss, gradient norm and learning rate."""
        config, passes = self.config, self.passes
        normalizer = passes.normalizer(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate_at(self.step_index)
        loss = norm = 0.0
        size: dict[str, float | None] = {}
        policy_RT = batch.policy.logprobs_BT
        features_PF = None if self.log_z is None else self.log_z.features([self.prompt_ids[i] for i in batch.chosen])
        for epoch in range(config.learner.epochs):
            if epoch and self.learner.follows_policy:
                policy_RT = passes.logprobs(batch.rollout).logprobs_BT
            if self.log_z is not None and features_PF is not None:
                rewards_PG = batch.grouped(passes.rewards(batch, policy_RT))
                batch = replace(batch, log_z_P=self.log_z.step(features_PF, rewards_PG))
            if epoch == 0 and batch.first_loss is not None:  # its gradient is there
                loss = batch.first_loss
            else:
                inputs = passes.inputs(batch, policy_RT, normalizer)
                loss = passes.backward(batch, inputs, kept=None if epoch else batch.graph_RT)
            norm, step = self._descend(batch)
            if step is not None:
                own = passes.inputs(batch, policy_RT, normalizer).advantages_R
                size = steps.step_metrics(step, own, self.world)
        return {
            "loss": sum(self.world.gather([loss])),
            "gradient_norm": norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **({} if batch.log_z_P is None else {"log_z": fmean(self.world.gather(batch.log_z_P.tolist()))}),
            **size,
        }

    def _descend(self, batch: Experience) -> tuple[float, steps.StepSize | None]:
        """Make the optimizer's step; return the gradient's norm before clipping, and the step's size if it is asked."""
        settings, divided = self.config.optimizer, is_sharded(self.model)
        if not divided:  # FSDP2 has averaged them in the backward pass
            average_gradients(steps.weights_of(self.optimizer), self.world)
        norm = steps.clip_gradients(self.trained, settings.gradient_clip)
        size = steps.take_step(self.optimizer, settings, partial(self._moved, batch), self.world, divided=divided)
        self._round_weights()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, size

    def _round_weights(self) -> None:
        if self.master is not None:
            self.master.round()

    def _moved(self, batch: Experience) -> float:
        """Return the KL from the policy that sampled the batch to the one of the present weights, nats per response."""
        self._round_weights()
        after_RT = self.passes.logprobs(batch.rollout).logprobs_BT.detach()
        return steps.mean_step_kl(batch.policy.logprobs_BT, after_RT, batch.policy.mask_BT, self.world)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start
