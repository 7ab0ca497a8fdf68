"""Rollouts from the trainer's own torch model: a batched, KV-cached sampling loop."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from sharpen.llm.models.finite import NonFiniteError
from sharpen.llm.models.weights import full_weights, is_plain
from sharpen.llm.rollout.requests import evaluating, response_limits, row_uniforms, seeds_of_rows
from sharpen.llm.rollout.sampler import sample, sampling_logprobs
from sharpen.llm.rollout.types import Rollout, Sampling, WeightSyncError

# Ended rows are cut out of the batch once they are this share of it; cutting copies the cache.
COMPACT_AT = 0.125


@dataclass
class _Row:
    """One response while it grows; ``index`` is its place in the rollout."""

    index: int
    prompt: int
    seed: int
    limit: int


class TransformersEngine:
    """Samples from the model that is being trained, so its weights are always current.

    The prompts of a micro-batch are left-padded and read once, then their caches are copied for the samples. Each row
    has its own random numbers, so its tokens do not depend on which rows share its batch (up to rounding in the
    model's matrix products).

    Args:
        model: A causal language model of transformers; it is put in eval mode while sampling.
        max_length: Longest prompt plus response in tokens.
        eos_ids: Tokens that end a response.
        max_rows: Most rows of a micro-batch; bounds the cache's memory.
        tokenizer: Finds the tokens that complete a stop string; needed where there are some.
    """

    name = "transformers"

    def __init__(
        self, model: Any, *, max_length: int, eos_ids: Sequence[int], max_rows: int = 256, tokenizer: Any = None
    ) -> None:
        self._model = model
        self._max_length = max_length
        self._eos_ids = tuple(eos_ids)
        self._max_rows = max_rows
        self._tokenizer = tokenizer

    def generate(
        self,
        prompts: list[list[int]],
        samples: int,
        sampling: Sampling,
        seed: int,
        *,
        limits: Sequence[int] | None = None,
        row_seeds: Sequence[int] | None = None,
    ) -> Rollout:
        """Return ``samples`` responses to each prompt; see :class:`sharpen.llm.rollout.types.Engine`.

        Raises:
            NonFiniteError: the model's logits are no distribution.
        """
        assert self._model is not None  # until it is closed
        vocabulary = self._model.config.get_text_config().vocab_size
        longest = response_limits(prompts, samples, sampling, seed, self._max_length, vocabulary, limits)
        seeds = seeds_of_rows(len(prompts), samples, seed, row_seeds)
        rows = [_Row(i, i // samples, row_seed, longest[i // samples]) for i, row_seed in enumerate(seeds)]
        rollout = Rollout(
            prompt_ids=[list(prompts[row.prompt]) for row in rows],
            response_ids=[[] for _ in rows],
            logprobs=[[] for _ in rows],
            finished=[False] * len(rows),
            model_logprobs=[[] for _ in rows],
        )
        # Neighbours in length share a micro-batch, so that little of it is padding.
        rows.sort(key=lambda row: (len(prompts[row.prompt]), row.index))
        with torch.no_grad(), evaluating(self._model):
            for start in range(0, len(rows), self._max_rows):
                self._sample_rows(rows[start : start + self._max_rows], prompts, sampling, rollout)
        return rollout

    def push_weights(self, model: Any) -> None:
        """Sample from ``model`` from now on.

        The engine reads the parameters of a plain model itself, so there is nothing that could be stale and nothing to
        verify. The weights of a sharded model, or of one with adapters, are copied into the engine's own model.

        Raises:
            WeightSyncError: the two models have different weights.
        """
        if is_plain(model):
            self._model = model
            return
        assert self._model is not None
        own = self._model.state_dict()
        with torch.no_grad():
            for name, weight in full_weights(model):
                if name not in own or own[name].shape != weight.shape:
                    raise WeightSyncError(f"the push found no place for {name} of shape {list(weight.shape)}")
                own[name].copy_(weight)

    def sleep(self) -> None:
        """Nothing to give back: between calls the engine holds no memory of its own."""

    def close(self) -> None:
        """Let go of the model."""
        self._model = None

    def _sample_rows(self, rows: list[_Row], prompts: list[list[int]], sampling: Sampling, rollout: Rollout) -> None:
        batch = _DecodingBatch(self._model, rows, prompts)
        device = batch.logits_BV.device
        steps = max(row.limit for row in rows)
        uniforms = np.stack([row_uniforms(row.seed, steps) for row in rows])
        uniform_RT = torch.from_numpy(uniforms).to(device)
        eos = torch.tensor(() if sampling.ignore_eos else self._eos_ids, dtype=torch.long, device=device)
        limit_R = torch.tensor([row.limit for row in rows], device=device)
        token_RT = torch.zeros(uniform_RT.shape, dtype=torch.long, device=device)
        logprob_RT, model_RT = torch.zeros_like(uniform_RT), torch.zeros_like(uniform_RT)
        model_is_sampled = sampling.top_p == 1 and sampling.temperature in (0, 1)
        length_R, finished_R = torch.zeros_like(limit_R), torch.zeros_like(limit_R, dtype=torch.bool)
        row_B = torch.arange(len(rows), device=device)  # the places in `rows` of the rows still in the batch
        open_B = torch.ones_like(row_B, dtype=torch.bool)  # rows that ended stay in the batch until it is compacted
        for step in range(steps):
            token_B, logprob_B = sample(batch.logits_BV, uniform_RT[row_B, step], sampling.temperature, sampling.top_p)
            token_RT[row_B, step], logprob_RT[row_B, step] = token_B, logprob_B.double()
            if not model_is_sampled:
                model_BV = sampling_logprobs(batch.logits_BV, 1.0, 1.0)
                model_RT[row_B, step] = model_BV.gather(-1, token_B[:, None])[:, 0].double()
            ended_B = torch.isin(token_B, eos)
            length_R[row_B] += open_B
            finished_R[row_B] |= open_B & ended_B
            open_B = open_B & ~ended_B & (limit_R[row_B] > step + 1)
            left, broken = torch.stack([open_B.sum(), (~torch.isfinite(logprob_B)).sum()]).tolist()
            if broken:
                raise NonFiniteError("logits", f"at response token {step + 1} of {broken} of {len(row_B)} rows")
            if left == 0:
                break
            if left <= (1 - COMPACT_AT) * len(row_B):
                place_B = open_B.nonzero()[:, 0]
                row_B, token_B, open_B = row_B[place_B], token_B[place_B], open_B[place_B]
                batch.select(place_B)
            batch.advance(token_B)
        model_RT = logprob_RT if model_is_sampled else model_RT
        _write(rollout, rows, length_R, token_RT, logprob_RT, model_RT, finished_R)


class _DecodingBatch:
    """The model's cache and next-token logits for a batch of rows that grow by one token at a time."""

    def __init__(self, model: Any, rows: list[_Row], prompts: list[list[int]]) -> None:
        self._model = model
        self._options = {"logits_to_keep": 1} if _keeps_logits(model) else {}
        device = model.get_input_embeddings().weight.device
        distinct = {tuple(prompts[row.prompt]): row.prompt for row in reversed(rows)}
        used = sorted(distinct.values())
        width = max(len(prompts[p]) for p in used)
        tokens_PL = torch.zeros(len(used), width, dtype=torch.long)  # padding is masked, so any token will do
        mask_PL = torch.zeros_like(tokens_PL)
        for place, p in enumerate(used):
            tokens_PL[place, width - len(prompts[p]) :] = torch.tensor(prompts[p])
            mask_PL[place, width - len(prompts[p]) :] = 1
        self._cache = DynamicCache(config=model.config)
        self._mask_BL = mask_PL.to(device)
        self._position_B = self._mask_BL.sum(-1)  # of the next token
        self._padded = not bool(mask_PL.all())
        self._forward(tokens_PL.to(device), (self._mask_BL.cumsum(-1) - 1).clamp(min=0))
        if [row.prompt for row in rows] != used:
            place_of = {tuple(prompts[p]): place for place, p in enumerate(used)}
            self.select(torch.tensor([place_of[tuple(prompts[row.prompt])] for row in rows], device=device))

    def select(self, place_B: torch.Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may be taken many times."""
        self._cache.batch_select_indices(place_B)
        self._mask_BL, self._position_B = self._mask_BL[place_B], self._position_B[place_B]
        self.logits_BV = self.logits_BV[place_B]

    def advance(self, token_B: torch.Tensor) -> None:
        """Append one token to each row."""
        self._mask_BL = torch.nn.functional.pad(self._mask_BL, (0, 1), value=1)
        self._forward(token_B[:, None], self._position_B[:, None])
        self._position_B = self._position_B + 1

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> None:
        self.logits_BV = self._model(
            input_ids=tokens,
            attention_mask=self._mask_BL if self._padded else None,  # attention without a mask is quicker
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **self._options,
        ).logits[:, -1]


def _write(
    rollout: Rollout,
    rows: list[_Row],
    length_R: torch.Tensor,
    token_RT: torch.Tensor,
    logprob_RT: torch.Tensor,
    model_RT: torch.Tensor,
    finished_R: torch.Tensor,
) -> None:
    assert rollout.model_logprobs is not None
    columns = (array.tolist() for array in (length_R, token_RT, logprob_RT, model_RT, finished_R))
    for row, length, tokens, logprobs, model_logprobs, finished in zip(rows, *columns, strict=True):
        rollout.response_ids[row.index] = tokens[:length]
        rollout.logprobs[row.index] = logprobs[:length]
        rollout.model_logprobs[row.index] = model_logprobs[:length]
        rollout.finished[row.index] = finished


def _keeps_logits(model: Any) -> bool:
    """Whether the model can be asked for the last position's logits only."""
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters
