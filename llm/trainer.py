"""One RLOO step on a language model, top to bottom.

Axis letters: P prompts, G samples of one prompt, R = P G sequences (prompt-major), T response positions (padded).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sharpen.llm.advantage import leave_one_out
from sharpen.llm.config import TrainConfig
from sharpen.llm.data import PromptSet
from sharpen.llm.logprobs import TokenLogprobs, make_batches, response_logprobs, token_logprobs
from sharpen.llm.loss import Mismatch, importance_weights, reinforce_loss
from sharpen.llm.measures import effective_alpha
from sharpen.llm.rewards import TaskReward
from sharpen.llm.rollout import Engine, Rollout, Sampling, WeightSyncError
from sharpen.llm.schedule import ROLLOUT, derive_seed, prompt_indices
from sharpen.llm.templates import encode
from sharpen.objective import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Largest |log pi_trainer - log pi_engine| of a token before the engine counts as out of step. In fp32 two correct
# implementations differ by rounding, about 1e-6; bf16 keeps 8 bits, so single tokens of low probability differ a lot.
ENGINE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2.0}
SAMPLES_LOGGED = 4


class Scored(NamedTuple):
    """The log-probabilities that the pseudo-reward and the loss need.

    Args:
        policy: Token log-probabilities under the policy before the update, shape [R, T], with entropies.
        policy_R: Sequence log-probabilities under the policy, nats.
        reference_R: Under the reference.
        mismatch: Importance weights of the trainer against the engine, shape [R, T].
    """

    policy: TokenLogprobs
    policy_R: Tensor
    reference_R: Tensor
    mismatch: Mismatch


class Trainer:
    """Trains a policy towards the objective of ``config``.

    It is given prompts, which carry no answers, and, only if the objective has a reward term, a reward.

    Args:
        config: Settings; only those of the training loop are read here.
        model: The policy, updated in place.
        tokenizer: Encodes prompts, decodes responses.
        engine: Samples responses from the policy.
        prompts: Training prompts.
        reward: The task reward; None exactly when the objective has none.
        template: Prompt template.

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
        reward: TaskReward | None,
        template: str,
    ) -> None:
        if (reward is not None) != config.objective.needs_reward:
            raise ValueError(f"reward: got {reward}, allowed: one exactly if the objective has a reward term")
        self.config, self.model, self.tokenizer, self.engine = config, model, tokenizer, engine
        self.prompts, self.reward = prompts, reward
        self.prompt_ids = [encode(tokenizer, prompt.text, template) for prompt in prompts.prompts]
        longest = max(len(ids) for ids in self.prompt_ids)
        if longest >= config.max_length:
            raise InputError(
                "max_length", config.max_length, f"more than the longest training prompt, {longest} tokens"
            )
        self.step_index = 0
        # p is the policy itself in self-sharpening, so no copy is kept then.
        self.reference = None if config.objective.reference == "policy" else _frozen_copy(model)
        settings = config.optimizer
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        )

    def step(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Sample, score, update the policy once and hand it to the engine.

        Returns:
            The step's metrics (docs/llm.md defines each) and a few of its samples.

        Raises:
            WeightSyncError: the engine samples from another policy than the one being trained.
        """
        seconds: dict[str, float] = {}
        with _timed(seconds, "rollout"):
            chosen, rollout = self._sample()
        with _timed(seconds, "logprobs"):
            scored = self._score(rollout)
        with _timed(seconds, "reward"):
            texts = self.tokenizer.batch_decode(rollout.response_ids, skip_special_tokens=True)
            rewards_R = self._rewards(chosen, texts)
            pseudo_R = self._pseudo_rewards(rollout, scored, rewards_R)
        with _timed(seconds, "update"):
            update = self._update(rollout, scored, pseudo_R)
        with _timed(seconds, "push"):
            self.engine.push_weights(self.model)
            self._refresh_reference()
        record = self._record(rollout, scored, rewards_R, pseudo_R, update)
        seconds["total"] = sum(seconds.values())
        samples = self._samples(chosen, texts, rewards_R, pseudo_R)
        self.step_index += 1
        return {**record, "seconds": seconds}, samples

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs besides the weights; random streams are functions of the step."""
        moving = self.config.objective.reference.startswith("refresh")
        reference = self.reference.state_dict() if moving and self.reference is not None else None
        return {"step": self.step_index, "optimizer": self.optimizer.state_dict(), "reference": reference}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state` returned; the model's weights must have been loaded already."""
        self.step_index = state["step"]
        self.optimizer.load_state_dict(state["optimizer"])
        if state["reference"] is not None and self.reference is not None:
            self.reference.load_state_dict(state["reference"])
        self.engine.push_weights(self.model)

    def _sample(self) -> tuple[list[int], Rollout]:
        config = self.config
        chosen = prompt_indices(len(self.prompt_ids), config.prompts_per_step, self.step_index, config.seed)
        prompts = [self.prompt_ids[index] for index in chosen]
        # The engine cuts every response where prompt and response together fill max_length.
        room = config.max_length - min(len(ids) for ids in prompts)
        sampling = Sampling(max_new_tokens=room, ignore_eos=config.ignore_eos)
        seed = derive_seed(config.seed, ROLLOUT, self.step_index)
        return chosen, self.engine.generate(prompts, config.samples_per_prompt, sampling, seed)

    def _score(self, rollout: Rollout) -> Scored:
        rows, budget = (rollout.prompt_ids, rollout.response_ids), self.config.tokens_per_microbatch
        policy = token_logprobs(self.model, *rows, micro_batch_tokens=budget, with_entropy=True)
        policy_R = reference_R = policy.logprobs_BT.sum(dim=1)
        if self.reference is not None:
            reference_R = token_logprobs(self.reference, *rows, micro_batch_tokens=budget).logprobs_BT.sum(dim=1)
        sampler_RT = torch.zeros_like(policy.logprobs_BT)
        sampler_RT[policy.mask_BT] = torch.tensor(
            [logprob for row in rollout.logprobs for logprob in row], dtype=sampler_RT.dtype, device=sampler_RT.device
        )
        mismatch = importance_weights(policy.logprobs_BT, sampler_RT, policy.mask_BT, self.config.importance_cap)
        self._check_engine(mismatch.max_error)
        return Scored(policy, policy_R, reference_R, mismatch)

    def _rewards(self, chosen: list[int], texts: list[str]) -> Tensor | None:
        if self.reward is None:
            return None
        names = [self.prompts.prompts[index].id for index in chosen for _ in range(self.config.samples_per_prompt)]
        return torch.tensor(self.reward(names, texts), device=self.model.device)

    def _pseudo_rewards(self, rollout: Rollout, scored: Scored, rewards_R: Tensor | None) -> Tensor:
        return self.config.objective.pseudo_reward(
            reward=rewards_R,
            ref_logprob=scored.reference_R,
            policy_logprob=scored.policy_R,
            length=torch.tensor([len(ids) for ids in rollout.response_ids], device=self.model.device),
        )

    def _update(self, rollout: Rollout, scored: Scored, pseudo_R: Tensor) -> dict[str, float]:
        config, mismatch = self.config, scored.mismatch
        advantages_R = leave_one_out(pseudo_R.view(config.prompts_per_step, config.samples_per_prompt)).flatten()
        lengths = [len(ids) for ids in rollout.response_ids]
        normalizer = sum(lengths) if config.aggregation == "token_mean" else len(lengths)
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate_at(self.step_index)
        batches = make_batches(
            rollout.prompt_ids,
            rollout.response_ids,
            micro_batch_tokens=config.tokens_per_microbatch,
            device=self.model.device,
        )
        loss_sum = 0.0
        for batch in batches:
            logprobs, _, mask = response_logprobs(self.model, batch)
            weights = mismatch.weights_BT[batch.rows, : mask.shape[1]]
            loss = reinforce_loss(logprobs, advantages_R[batch.rows], weights, mask, normalizer)
            loss.backward()
            loss_sum += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss_sum,
            "gradient_norm": float(norm),
            "engine_logprob_error": mismatch.max_error,
            "engine_logprob_error_mean": mismatch.mean_error,
            "importance_capped": mismatch.share_capped,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _check_engine(self, error: float) -> None:
        allowed = self.config.engine_tolerance or ENGINE_TOLERANCE[self.model.dtype]
        if not error <= allowed:  # NaN fails too
            raise WeightSyncError(
                f"the {self.engine.name} engine and the trainer differ by {error:.3g} nats on a sampled token "
                f"(allowed: {allowed:g}): the engine does not sample from the policy being trained"
            )

    def _refresh_reference(self) -> None:
        every = self.config.objective.refresh_every
        if self.reference is not None and every is not None and (self.step_index + 1) % every == 0:
            self.reference.load_state_dict(self.model.state_dict())

    def _record(
        self, rollout: Rollout, scored: Scored, rewards_R: Tensor | None, pseudo_R: Tensor, update: dict[str, float]
    ) -> dict[str, Any]:
        shape = (self.config.prompts_per_step, self.config.samples_per_prompt)
        lengths = [len(ids) for ids in rollout.response_ids]
        reward = None if rewards_R is None else float(rewards_R.mean())
        return {
            "step": self.step_index,
            "reward": reward,
            "accuracy": reward,  # the task reward is 0 or 1; null in a run that must not see the answers
            "pseudo_reward": float(pseudo_R.mean()),
            "response_length": sum(lengths) / len(lengths),
            "finished": sum(rollout.finished) / len(lengths),
            "entropy": _entropy_per_token(scored.policy),
            "kl_ref": float((scored.policy_R - scored.reference_R).mean()),
            "ref_logprob": float(scored.reference_R.mean()),
            "effective_alpha": effective_alpha(scored.policy_R.view(shape), scored.reference_R.view(shape)),
            **update,
        }

    def _samples(
        self, chosen: list[int], texts: list[str], rewards_R: Tensor | None, pseudo_R: Tensor
    ) -> list[dict[str, Any]]:
        G = self.config.samples_per_prompt
        return [
            {
                "step": self.step_index,
                "id": self.prompts.prompts[chosen[row // G]].id,
                "prompt": self.prompts.prompts[chosen[row // G]].text,
                "response": texts[row],
                "reward": None if rewards_R is None else float(rewards_R[row]),
                "pseudo_reward": float(pseudo_R[row]),
            }
            for row in range(0, min(len(texts), SAMPLES_LOGGED * G), G)
        ]


def _entropy_per_token(policy: TokenLogprobs) -> float:
    assert policy.entropy_BT is not None
    return float(policy.entropy_BT.sum() / policy.mask_BT.sum())


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    return copy.deepcopy(model).eval().requires_grad_(False)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - start
