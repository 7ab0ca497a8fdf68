"""Next-token log-probabilities of many prefixes of one prompt's responses, each token passed through the model once.

All prefixes share one row of the cache: the prompt, and behind it every token passed so far. A token sees the prompt,
its ancestors and itself, by an explicit attention mask, as in ``llm/models/shared_prefix.py``, and stands at the
position that it has in its own response. So a batch of B prefixes costs B forward tokens, whatever their lengths.
A model that takes no such mask computes each prefix from its prompt on, which costs the prompt again for each.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from sharpen.llm.models.decoding import DecodingBatch
from sharpen.llm.models.finite import require_finite
from sharpen.llm.models.shared_prefix import prefix_is_shareable, sees


class Passes:
    """A model and one prompt.

    Args:
        model: A causal language model, in evaluation mode.
        prompt: Its token ids, at least one.
        longest: Most tokens of a response.

    Attributes:
        tokens: Forward tokens so far, those of the first pass of the prompt not counted.
        shares: Whether all prefixes stand in one row.
    """

    def __init__(self, model: Any, prompt: Sequence[int], longest: int) -> None:
        self._model, self._prompt = model, list(prompt)
        self._weight = model.get_input_embeddings().weight
        self.tokens = 0
        self.shares = prefix_is_shareable(model) and len(prompt) + longest <= sees(model.config)
        # Without the configuration no layer forgets what lies before its window, which no row here is longer than.
        self._cache = DynamicCache()
        self._columns: dict[tuple[int, ...], list[int]] = {(): []}

    def cost(self, prefix: tuple[int, ...]) -> int:
        """Return the forward tokens that a prefix costs."""
        return 1 if self.shares else len(self._prompt) + len(prefix)

    @torch.no_grad()
    def root(self) -> torch.Tensor:
        """Return log p of each first token, nats, float64, shape [1, V]."""
        if not self.shares:
            return self._checked(DecodingBatch(self._model, [self._prompt]).logits_BV)
        device = self._weight.device
        last = "logits_to_keep" in inspect.signature(type(self._model).forward).parameters
        logits = self._model(
            input_ids=torch.tensor([self._prompt], device=device),
            past_key_values=self._cache,
            use_cache=True,
            **({"logits_to_keep": 1} if last else {}),
        ).logits
        return self._checked(logits[0, -1:])

    @torch.no_grad()
    def after(self, prefixes: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Return log p of each token after each prefix, nats, float64, shape [B, V].

        Args:
            prefixes: Response tokens of each, at least one; what they continue has been passed before.
        """
        if not self.shares:
            rows = [[*self._prompt, *prefix] for prefix in prefixes]
            self.tokens += sum(map(len, rows))
            return self._checked(DecodingBatch(self._model, rows).logits_BV)
        device, P, first = self._weight.device, len(self._prompt), len(self._prompt) + self.tokens
        mask_BL = torch.full((len(prefixes), first + len(prefixes)), torch.finfo(self._weight.dtype).min)
        mask_BL[:, :P] = 0
        for place, prefix in enumerate(prefixes):
            self._columns[prefix] = [*self._columns[prefix[:-1]], first + place]
            mask_BL[place, self._columns[prefix]] = 0
        self.tokens += len(prefixes)
        logits = self._model(
            input_ids=torch.tensor([[prefix[-1] for prefix in prefixes]], device=device),
            position_ids=torch.tensor([[P + len(prefix) - 1 for prefix in prefixes]], device=device),
            attention_mask=mask_BL[None, None].to(device, self._weight.dtype),
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        return self._checked(logits[0])

    @staticmethod
    def _checked(logits_BV: torch.Tensor) -> torch.Tensor:
        require_finite("logits", logits_BV, "prefixes")
        return logits_BV.double().log_softmax(-1).cpu()
