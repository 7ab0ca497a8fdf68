"""Rollouts from the trainer's own torch model: a batched, KV-cached sampling loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sharpen.llm.common.interrupt import stop_if_abandoned
from sharpen.llm.models.decoding import DecodingBatch
from sharpen.llm.models.finite import NonFiniteError
from sharpen.llm.models.weights import full_weights, is_plain
from sharpen.llm.rollout.requests import evaluating, response_limits, row_uniforms, seeds_of_rows
from sharpen.llm.rollout.sampler import sample, sampling_logprobs
from sharpen.llm.rollout.stops import Stops, stops_for
from sharpen.llm.rollout.types import Rollout, Sampling, WeightSyncError

# Ended rows are cut out of the batch, and waiting ones put in, once they are this share of it: both copy the cache.
COMPACT_AT = 0.125
# Parameters from which waiting rows take ended ones' places. In smaller models masks and joins cost more than the
# passes that they save (docs/rollout.md), and their rollouts stay what they were, bit by bit.
REFILL_FROM = 10**7


@dataclass
class _Row:
    """One response while it grows; ``index`` is its place in the rollout."""

    index: int
    prompt: int
    seed: int
    limit: int


class TransformersEngine:
    """Samples from the model that is being trained, so its weights are always current.

    Batching is continuous: an ended row leaves the batch, and the next that waits takes its place. Prompts are read
    once each, left-padded, and their caches copied for the samples. Each row has its own random numbers, so its tokens
    do not depend on which rows share its batch (up to rounding in the model's matrix products).

    Args:
        model: A causal language model of transformers; it is put in eval mode while sampling.
        max_length: Longest prompt plus response in tokens.
        eos_ids: Tokens that end a response.
        max_rows: Most rows of a batch; bounds the cache's memory.
        tokenizer: Finds the tokens that complete a stop string; needed where there are some.
        refill: Whether waiting rows take ended ones' places, or wait until every row of the batch has ended; None: the
            former if the model has at least :data:`REFILL_FROM` parameters.
        copies: Whether ``model`` is the engine's own, into which pushes copy, so that it stays as it was at the last
            push while the policy is trained; else the engine samples from the very model that is pushed.
    """

    name = "transformers"

    def __init__(
        self,
        model: Any,
        *,
        max_length: int,
        eos_ids: Sequence[int],
        max_rows: int = 256,
        tokenizer: Any = None,
        refill: bool | None = None,
        copies: bool = False,
    ) -> None:
        self._model, self._copies = model, copies
        self._max_length = max_length
        self._eos_ids = tuple(eos_ids)
        self._max_rows = max_rows
        self._tokenizer = tokenizer
        self._refill = model.num_parameters() >= REFILL_FROM if refill is None else refill

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
        stops = stops_for(self._tokenizer, sampling.stop)
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
        # Neighbours in length share a batch, so that little of it is padding.
        rows.sort(key=lambda row: (len(prompts[row.prompt]), row.index))
        first: dict[tuple[int, ...], int] = {}
        refill = self._refill and len(rows) > self._max_rows
        if refill:  # prompts that are the same follow each other, so that one cache serves all of their rows
            for row in rows:
                first.setdefault(tuple(prompts[row.prompt]), row.prompt)
            rows.sort(key=lambda row: (len(prompts[row.prompt]), first[tuple(prompts[row.prompt])], row.index))
        size = len(rows) if refill else self._max_rows
        ends = _Ends(() if sampling.ignore_eos else self._eos_ids, None if sampling.ignore_eos else stops, self._device)
        with torch.inference_mode(), evaluating(self._model):  # a tenth quicker than without gradients in a small model
            for start in range(0, len(rows), size):
                self._sample_rows(rows[start : start + size], prompts, sampling, ends, rollout)
        return rollout

    def push_weights(self, model: Any) -> None:
        """Sample from ``model`` from now on.

        The engine reads the parameters of a plain model itself, so there is nothing that could be stale and nothing to
        verify. The weights of a sharded model, or of one with adapters, are copied into the engine's own model; with
        ``copies`` those of every model.

        Raises:
            WeightSyncError: the two models have different weights.
        """
        if is_plain(model) and not self._copies:
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

    @property
    def _device(self) -> torch.device:
        assert self._model is not None
        return self._model.get_input_embeddings().weight.device

    def _sample_rows(
        self, rows: list[_Row], prompts: list[list[int]], sampling: Sampling, ends: _Ends, rollout: Rollout
    ) -> None:
        """Sample these rows, at most ``max_rows`` at a time."""
        waiting, places = deque(rows), min(len(rows), self._max_rows)
        table = _Table(places, max(row.limit for row in rows), sampling, ends, rollout, self._device)
        reader = _Reader(self._model, prompts, waiting)
        batch, slot_B = self._admit(reader, table)
        while True:
            stop_if_abandoned()
            token_B, open_B, left = table.sample(batch.logits_BV, slot_B)
            if left == 0 or left <= (1 - COMPACT_AT) * len(slot_B):
                table.release(slot_B[~open_B])
                if left == 0:
                    if not waiting:
                        return
                    batch, slot_B = self._admit(reader, table)
                    continue
                place_B = open_B.nonzero()[:, 0]
                slot_B, token_B, open_B = slot_B[place_B], token_B[place_B], open_B[place_B]
                batch.select(place_B)
            batch.advance(token_B, open_B)
            if waiting and len(slot_B) < places and batch.joinable:
                more, more_B = self._admit(reader, table)
                batch.join(more)
                slot_B = torch.cat([slot_B, more_B])

    @staticmethod
    def _admit(reader: _Reader, table: _Table) -> tuple[DecodingBatch, torch.Tensor]:
        rows, batch = reader.next_rows(len(table.free))
        return batch, table.admit(rows)


class _Ends:
    """What ends a response besides its limit."""

    def __init__(self, eos_ids: Sequence[int], stops: Stops | None, device: torch.device) -> None:
        self._stops = stops if stops is not None and stops.last_pieces else None  # longer than a character
        ids = [*eos_ids, *(stops.token_ids if stops is not None else ())]
        self._ids = torch.tensor(ids, dtype=torch.long, device=device)
        pieces = sorted(self._stops.last_pieces) if self._stops is not None else []
        self._pieces = torch.tensor(pieces, dtype=torch.long, device=device)

    def reached(self, token_B: torch.Tensor, open_B: torch.Tensor, slot_B: torch.Tensor, table: _Table) -> torch.Tensor:
        """Return which rows of the batch [B] end with the token that they have just got."""
        ended_B = torch.isin(token_B, self._ids)
        if self._stops is not None:
            doubtful_B = open_B & ~ended_B & torch.isin(token_B, self._pieces)
            for place in doubtful_B.nonzero()[:, 0].tolist():
                ended_B[place] = self._stops.completed_by(table.response(int(slot_B[place])))
        return ended_B


class _Table:
    """The responses that are growing, one slot each, until they are written into the rollout.

    A row that has ended may stay in the batch for a while; what it gets then lies past its end and counts for nothing.
    """

    def __init__(
        self, slots: int, steps: int, sampling: Sampling, ends: _Ends, rollout: Rollout, device: torch.device
    ) -> None:
        self._sampling, self._ends, self._rollout = sampling, ends, rollout
        self._model_is_sampled = sampling.top_p == 1 and sampling.temperature in (0, 1)
        self.free = list(range(slots))
        self._rows: list[_Row | None] = [None] * slots
        self._uniform_ST = torch.zeros(slots, steps + 1, dtype=torch.float64, device=device)
        self._token_ST = torch.zeros(slots, steps + 1, dtype=torch.long, device=device)
        self._logprob_ST = torch.zeros_like(self._uniform_ST)
        self._model_ST = self._logprob_ST if self._model_is_sampled else torch.zeros_like(self._uniform_ST)
        self._length_S = torch.zeros(slots, dtype=torch.long, device=device)
        self._limit_S = torch.zeros_like(self._length_S)
        self._finished_S, self._open_S = (torch.zeros(slots, dtype=torch.bool, device=device) for _ in range(2))

    def admit(self, rows: Sequence[_Row]) -> torch.Tensor:
        """Give each row a slot and return them [B]."""
        slots, self.free = self.free[: len(rows)], self.free[len(rows) :]
        device, width = self._length_S.device, self._uniform_ST.shape[1]
        uniform_BT = np.empty((len(rows), width))  # filled here and copied once: a copy a row is as slow as its draw
        for place, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            self._rows[slot] = row
            uniform_BT[place] = row_uniforms(row.seed, width)
        slot_B = torch.tensor(slots, dtype=torch.long, device=device)
        self._uniform_ST[slot_B] = torch.from_numpy(uniform_BT).to(device)
        self._limit_S[slot_B] = torch.tensor([row.limit for row in rows], device=device)
        self._length_S[slot_B], self._finished_S[slot_B], self._open_S[slot_B] = 0, False, True
        return slot_B

    def sample(self, logits_BV: torch.Tensor, slot_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return the rows' next tokens [B], which rows go on after them [B], and how many do.

        Raises:
            NonFiniteError: logits are no distribution.
        """
        at_B, open_B = self._length_S[slot_B], self._open_S[slot_B]
        temperature, top_p = self._sampling.temperature, self._sampling.top_p
        token_B, logprob_B = sample(logits_BV, self._uniform_ST[slot_B, at_B], temperature, top_p)
        self._token_ST[slot_B, at_B], self._logprob_ST[slot_B, at_B] = token_B, logprob_B.double()
        if not self._model_is_sampled:
            model_BV = sampling_logprobs(logits_BV, 1.0, 1.0)
            self._model_ST[slot_B, at_B] = model_BV.gather(-1, token_B[:, None])[:, 0].double()
        self._length_S[slot_B] += open_B
        ended_B = open_B & self._ends.reached(token_B, open_B, slot_B, self)
        self._finished_S[slot_B] |= ended_B
        open_B = open_B & ~ended_B & (self._limit_S[slot_B] > at_B + 1)
        self._open_S[slot_B] = open_B
        broken_B = ~torch.isfinite(logprob_B)
        left, broken = torch.stack([open_B.sum(), broken_B.sum()]).tolist()
        if broken:
            step = int(at_B[broken_B].min()) + 1
            raise NonFiniteError("logits", f"at response token {step} of {broken} of {len(slot_B)} rows")
        return token_B, open_B, left

    def response(self, slot: int) -> list[int]:
        """Return the tokens that a slot's row has so far."""
        return self._token_ST[slot, : self._length_S[slot]].tolist()

    def release(self, slot_B: torch.Tensor) -> None:
        """Write these slots' rows into the rollout; the slots are free then."""
        rollout = self._rollout
        assert rollout.model_logprobs is not None
        columns = (self._length_S, self._token_ST, self._logprob_ST, self._model_ST, self._finished_S)
        rows = zip(slot_B.tolist(), *(column[slot_B].tolist() for column in columns), strict=True)
        for slot, length, tokens, logprobs, model_logprobs, finished in rows:
            row = self._rows[slot]
            assert row is not None
            rollout.response_ids[row.index], rollout.logprobs[row.index] = tokens[:length], logprobs[:length]
            rollout.model_logprobs[row.index], rollout.finished[row.index] = model_logprobs[:length], finished
            self.free.append(slot)


class _Reader:
    """Reads the prompts of waiting rows, each once: a cache is kept while rows of its prompt wait."""

    def __init__(self, model: Any, prompts: list[list[int]], waiting: deque[_Row]) -> None:
        self._model, self._prompts, self._waiting = model, prompts, waiting
        self._kept: tuple[list[int], DecodingBatch] | None = None

    def next_rows(self, count: int) -> tuple[list[_Row], DecodingBatch]:
        """Take up to ``count`` rows off the queue and return them with their prompts' caches."""
        rows = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        if self._kept is None:
            return rows, self._read(rows)
        known, batch = self._kept
        old = next((place for place, row in enumerate(rows) if self._prompts[row.prompt] != known), len(rows))
        taken = batch.taken([0] * old)
        if old < len(rows):
            taken.join(self._read(rows[old:]))
        elif not self._waits(known):
            self._kept = None
        return rows, taken

    def _read(self, rows: list[_Row]) -> DecodingBatch:
        keys = [tuple(self._prompts[row.prompt]) for row in rows]
        index_of = {key: row.prompt for key, row in zip(reversed(keys), reversed(rows), strict=True)}
        place_of = {key: place for place, key in enumerate(sorted(index_of, key=index_of.__getitem__))}
        batch, places = DecodingBatch(self._model, [list(key) for key in place_of]), [place_of[key] for key in keys]
        keeps = batch.joinable and self._waits(list(keys[-1]))
        self._kept = (list(keys[-1]), batch.taken([places[-1]])) if keeps else None
        if places != list(range(len(place_of))):
            batch.select(torch.tensor(places, device=batch.logits_BV.device))
        return batch

    def _waits(self, prompt: list[int]) -> bool:
        return bool(self._waiting) and self._prompts[self._waiting[0].prompt] == prompt
