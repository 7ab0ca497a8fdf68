"""A batch of rows on their way through a torch model, one token at a time, with their keys and values cached."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 32  # columns that a cache takes beyond those that it needs
# Parameters from which on a cache has room: a smaller model's is copied faster than its place in the room is found.
ROOMY_FROM = 10**7


class RoomyLayer(DynamicLayer):
    """Keys and values with room for the next tokens behind them.

    Its own class copies all that is cached with every token: the square of a response's length. Here a token is written
    into the room, and :data:`ROOM` tokens later all is copied once. What the model reads is the same, bit by bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rooms: tuple[torch.Tensor, torch.Tensor] | None = None
        self._views: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the columns of some tokens, shapes [B, H, new, D], and return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        width = old + key_states.shape[-2]
        if not self._has_room(width):
            kept = (self.keys, self.values) if old else (None, None)
            self._rooms = (_room(kept[0], key_states, width + ROOM), _room(kept[1], value_states, width + ROOM))
        assert self._rooms is not None
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., old:width, :] = new
        self._show(width)
        return self._views  # type: ignore[return-value]

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order, and their room."""
        width = self.get_seq_length()
        if not self._has_room(width):
            super().batch_select_indices(indices)
            return
        assert self._rooms is not None
        keys, values = self._rooms
        self._rooms = (keys[indices], values[indices])
        self._show(width)

    def _has_room(self, width: int) -> bool:
        """Whether the room is that of these very keys and values, which others may have replaced, and wide enough."""
        if self._rooms is None or self._views is None or width > self._rooms[0].shape[-2]:
            return False
        return self.keys is self._views[0] and self.values is self._views[1]

    def _show(self, width: int) -> None:
        assert self._rooms is not None
        keys, values = self._rooms
        self._views = self.keys, self.values = keys[..., :width, :], values[..., :width, :]


def _room(kept: torch.Tensor | None, new: torch.Tensor, width: int) -> torch.Tensor:
    """Return an array of ``width`` columns for what is kept and what is new."""
    rows, heads, _, size = new.shape
    room = new.new_empty(rows, heads, width, size)
    if kept is not None:
        room[..., : kept.shape[-2], :] = kept
    return room


class DecodingBatch:
    """The model's cache and next-token logits for a batch of rows that grow by one token at a time.

    Rows are aligned at their ends, with masked columns before the shorter ones.
    """

    def __init__(self, model: Any, prompts: list[list[int]]) -> None:
        self._model = model
        self._options = {"logits_to_keep": 1} if _keeps_logits(model) else {}
        device = model.get_input_embeddings().weight.device
        width = max(map(len, prompts))
        tokens_PL = torch.zeros(len(prompts), width, dtype=torch.long)  # padding is masked, so any token will do
        mask_PL = torch.zeros_like(tokens_PL)
        for place, prompt in enumerate(prompts):
            tokens_PL[place, width - len(prompt) :] = torch.tensor(prompt)
            mask_PL[place, width - len(prompt) :] = 1
        self._cache = DynamicCache(config=model.config)
        if model.num_parameters() >= ROOMY_FROM:
            self._cache.layers = [RoomyLayer() if type(own) is DynamicLayer else own for own in self._cache.layers]
        self._mask_BL = mask_PL.to(device)
        self._position_B = self._mask_BL.sum(-1)  # of the next token
        self._padded = not bool(mask_PL.all())
        self._forward(tokens_PL.to(device), (self._mask_BL.cumsum(-1) - 1).clamp(min=0))

    @property
    def joinable(self) -> bool:
        """Whether other rows can be put into the batch: whether all that is cached are keys and values, by column."""
        return all(type(layer) in (DynamicLayer, RoomyLayer, DynamicSlidingWindowLayer) for layer in self._cache.layers)

    @property
    def _layers(self) -> list[Any]:
        """What is cached: keys and values, where the batch is joinable."""
        return list(self._cache.layers)

    def select(self, place_B: torch.Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may be taken many times."""
        self._cache.batch_select_indices(place_B)
        self._mask_BL, self._position_B = self._mask_BL[place_B], self._position_B[place_B]
        self.logits_BV = self.logits_BV[place_B]

    def taken(self, places: list[int]) -> DecodingBatch:
        """Return another batch, of these rows of this one, which stays as it is."""
        other = copy.copy(self)
        other._cache = copy.copy(self._cache)
        other._cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        other.select(torch.tensor(places, device=self.logits_BV.device))
        return other

    def join(self, other: DecodingBatch) -> None:
        """Put the other batch's rows after this one's; columns that no row uses are cut off."""
        longest = int(torch.stack([self._position_B.max(), other._position_B.max()]).max())
        mine, theirs = self._fitted(longest), other._fitted(longest)
        for own, more, joined in zip(mine, theirs, self._layers, strict=True):
            joined.keys, joined.values = (torch.cat(pair) for pair in zip(own, more, strict=True))
            if isinstance(joined, DynamicSlidingWindowLayer):
                joined.cumulative_length = longest
        both = (self, other)
        self._mask_BL = torch.cat([_last_columns(batch._mask_BL, longest, -1) for batch in both])
        self._position_B = torch.cat([batch._position_B for batch in both])
        self.logits_BV = torch.cat([batch.logits_BV for batch in both])
        self._padded = not bool(self._mask_BL.all())

    def _fitted(self, columns: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each layer's keys and values of the last columns; a layer with a window has no more than it needs."""
        found = []
        for layer in self._layers:
            windowed = isinstance(layer, DynamicSlidingWindowLayer)
            width = min(columns, layer.sliding_window - 1) if windowed else columns
            keys: Any = layer.keys
            values: Any = layer.values
            found.append((_last_columns(keys, width, -2), _last_columns(values, width, -2)))
        return found

    def advance(self, token_B: torch.Tensor, open_B: torch.Tensor) -> None:
        """Append one token to each row; a row that is not open keeps its place, which nobody reads again."""
        self._mask_BL = pad(self._mask_BL, (0, 1), value=1)
        self._forward(token_B[:, None], self._position_B[:, None])
        self._position_B = self._position_B + open_B

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> None:
        self.logits_BV = self._model(
            input_ids=tokens,
            attention_mask=self._mask_BL if self._padded else None,  # attention without a mask is quicker
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **self._options,
        ).logits[:, -1]


def _last_columns(array: torch.Tensor, columns: int, axis: int) -> torch.Tensor:
    """Return the last columns along an axis, with zeros before them where there are fewer."""
    width = array.shape[axis]
    if width >= columns:
        return array.narrow(axis, width - columns, columns)
    return pad(array, (*(0, 0) * (-1 - axis), columns - width, 0))


def _keeps_logits(model: Any) -> bool:
    """Whether the model can be asked for the last position's logits only."""
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters
