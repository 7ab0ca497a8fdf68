"""A rollout engine and the trainer's model as one autoregressive model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from sharpen.llm.models.finite import require_finite
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout import Engine, Sampling
from sharpen.llm.rollout.requests import eos_token_ids, evaluating
from sharpen.llm.rollout.stops import stops_for
from sharpen.llm.samplers.kernel import Path
from sharpen.llm.samplers.requests import Extend, Likeliest, Next

SCORED_TOKENS = 16384  # of a micro-batch when the model reads sequences


class LanguageModel:
    """Continuations from the engine; their log p from the engine where it knows it, else from the model.

    The model computes log p of new tokens only; a kept prefix's are known since it was drawn. Log q is what the engine
    sampled with, so Metropolis-Hastings is exact for the model's p also where engine and model round differently.

    Args:
        engine: Samples the model.
        model: The same weights, in torch.
        tokenizer: Names the end-of-sequence token, beside those the model names.
        stop: Texts that end a response too; one ASCII character each where a method goes on with a part of a response.
    """

    def __init__(self, engine: Engine, model: Any, tokenizer: Any = None, stop: tuple[str, ...] = ()) -> None:
        self._engine, self._model, self._stop = engine, model, stop
        ends = stops_for(tokenizer, stop)
        self.eos_ids = frozenset(eos_token_ids(model, tokenizer)) | frozenset(() if ends is None else ends.token_ids)

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        """Return a continuation for each request; all have one temperature, so it is one call of the engine."""
        (temperature,) = {request.temperature for request in requests}
        limits = [request.limit for request in requests]
        rollout = self._engine.generate(
            [list(request.prefix) for request in requests],
            1,
            Sampling(max(limits), temperature=temperature, stop=self._stop),
            0,
            limits=limits,
            row_seeds=[request.seed for request in requests],
        )
        base, entropy = rollout.model_logprobs, [[] for _ in requests]
        needed = any(request.entropies for request in requests)
        if base is None or needed:
            scored, entropy = self._score(rollout.prompt_ids, rollout.response_ids, needed)
            base = base or scored
        columns = (rollout.response_ids, base, rollout.logprobs, rollout.finished, entropy)
        return [
            Path(tuple(tokens), tuple(base), tuple(proposal), ended, tuple(entropy))
            for tokens, base, proposal, ended, entropy in zip(*columns, strict=True)
        ]

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        """Return the likeliest next tokens for each request."""
        order = sorted(range(len(requests)), key=lambda place: len(requests[place].prefix), reverse=True)
        found: list[Likeliest | None] = [None] * len(requests)
        with torch.no_grad(), evaluating(self._model):
            while order:
                count = max(1, SCORED_TOKENS // len(requests[order[0]].prefix))
                places, order = order[:count], order[count:]
                self._read([requests[place] for place in places], places, found)
        return [top for top in found if top is not None]

    def _read(self, requests: list[Next], places: list[int], found: list[Likeliest | None]) -> None:
        """Read one micro-batch, padded on the left so that every prefix ends in the last column."""
        width = len(requests[0].prefix)
        tokens_BL = torch.tensor([[0] * (width - len(r.prefix)) + list(r.prefix) for r in requests])
        mask_BL = torch.tensor([[0] * (width - len(r.prefix)) + [1] * len(r.prefix) for r in requests])
        device = self._model.get_input_embeddings().weight.device
        only_last = "logits_to_keep" in inspect.signature(type(self._model).forward).parameters
        logits_BV = self._model(
            input_ids=tokens_BL.to(device),
            attention_mask=mask_BL.to(device),
            position_ids=(mask_BL.cumsum(-1) - 1).clamp(min=0).to(device),
            use_cache=False,
            **({"logits_to_keep": 1} if only_last else {}),
        ).logits[:, -1]
        logprob_BV = torch.log_softmax(logits_BV.double(), dim=-1)
        require_finite("logits", logprob_BV.max(dim=-1).values, "prefixes")  # NaN wins a maximum
        for place, request, logprob_V in zip(places, requests, logprob_BV, strict=True):
            top = torch.topk(logprob_V, min(request.top, len(logprob_V)))
            found[place] = Likeliest(top.indices.cpu().numpy(), top.values.cpu().numpy())

    def _score(
        self, prefixes: list[list[int]], tokens: list[list[int]], entropies: bool
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Return log p of new tokens, and the entropies of the laws that they are of if they are needed."""
        with evaluating(self._model):
            read = {"micro_batch_tokens": SCORED_TOKENS, "with_entropy": entropies}
            scored = token_logprobs(self._model, prefixes, tokens, **read)

        def rows(values_BT: torch.Tensor | None) -> list[list[float]]:
            if values_BT is None:
                return [[] for _ in tokens]
            return [row[: len(new)] for row, new in zip(values_BT.double().tolist(), tokens, strict=True)]

        return rows(scored.logprobs_BT), rows(scored.entropy_BT)
