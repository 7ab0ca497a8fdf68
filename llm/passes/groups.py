"""Whole groups of samples in a microbatch, so that a group's scores are known while their graph is still there.

Axis letters: P prompts, G samples of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sharpen.llm.models.logprobs import Batch, SharePrompts, lines_for, make_batches
from sharpen.llm.models.shared_prefix import Line, SharedBatch, by_length, lines_of, shared_batches
from sharpen.llm.models.weights import compute_device

PIECES = 4  # a window's batches hold at most so small a part of it, or its longest row would pad all of its rows


@dataclass(frozen=True)
class Window:
    """Whole groups whose graph is held at a time.

    Args:
        prompts: Places of the groups among the caller's P.
        rows: Those of their rows among the caller's P G, prompt by prompt.
        batches: The rows, each in exactly one; a batch's ``rows`` are places in ``rows``.
    """

    prompts: list[int]
    rows: list[int]
    batches: Sequence[Batch | SharedBatch]

    @property
    def tokens(self) -> int:
        """Positions, padding included."""
        return sum(batch.tokens_BL.numel() for batch in self.batches)

    def callers(self) -> list[Batch | SharedBatch]:
        """Return the batches with places among the caller's rows."""
        return [replace(batch, rows=[self.rows[place] for place in batch.rows]) for batch in self.batches]


def positions(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    micro_batch_tokens: int,
    share_prompts: SharePrompts = "auto",
) -> int:
    """Return the positions of the rows' microbatches, padding included, as ``logprobs.batches_for`` would make them."""
    options: dict[str, Any] = {"micro_batch_tokens": micro_batch_tokens, "share_prompts": share_prompts}
    lines = lines_for(model, prompt_ids, response_ids, **options)
    rows = zip(prompt_ids, response_ids, strict=True)
    lengths = [len(p) + len(r) for p, r in rows] if lines is None else [len(line.tokens) for line in lines]
    return _padded(lengths, list(by_length(lengths, micro_batch_tokens)))


def windows_for(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    group_size: int,
    micro_batch_tokens: int,
    share_prompts: SharePrompts = "auto",
    one_batch: bool = False,
) -> list[Window] | None:
    """Return the rows as windows of at most ``micro_batch_tokens`` positions; None if a group takes more.

    Prompts are shared as :func:`~sharpen.llm.models.logprobs.batches_for` would share them. Groups of long rows come
    first.

    Args:
        model: The model that is to compute them.
        prompt_ids: P G prompts, prompt-major.
        response_ids: P G responses.
        group_size: G.
        micro_batch_tokens: Most positions of a window, padding included.
        share_prompts: See there.
        one_batch: Each window is one batch, for models whose every pass counts (sharded ones).
    """
    groups = [range(first, first + group_size) for first in range(0, len(response_ids), group_size)]
    most = micro_batch_tokens if one_batch else max(1, micro_batch_tokens // PIECES)
    options: dict[str, Any] = {"micro_batch_tokens": micro_batch_tokens, "share_prompts": share_prompts}
    lines: list[list[Line]] | None = None
    if lines_for(model, prompt_ids, response_ids, **options) is not None:
        hidden = model.config.get_text_config().hidden_size
        lines = [
            lines_of(*_some(group, prompt_ids, response_ids), micro_batch_tokens=most, hidden=hidden)
            for group in groups
        ]
    lengths = [
        [len(prompt_ids[row]) + len(response_ids[row]) for row in group]
        if lines is None
        else [len(line.tokens) for line in lines[place]]
        for place, group in enumerate(groups)
    ]
    packed = _packed(lengths, micro_batch_tokens, most, one_batch=one_batch)
    if packed is None:
        return None
    options = {"micro_batch_tokens": most, "device": compute_device(model)}
    found = []
    for prompts in packed:
        rows = [row for prompt in prompts for row in groups[prompt]]
        if lines is None:
            batches: Sequence[Batch | SharedBatch] = make_batches(*_some(rows, prompt_ids, response_ids), **options)
        else:
            own = [_moved(line, place * group_size) for place, prompt in enumerate(prompts) for line in lines[prompt]]
            batches = shared_batches(own, **options)
        found.append(Window(prompts, rows, batches))
    return found


def _packed(lengths: Sequence[Sequence[int]], limit: int, most: int, *, one_batch: bool) -> list[list[int]] | None:
    """Return which groups share a window; ``lengths`` are those of each group's rows or lines."""

    def fit(groups: Sequence[int]) -> bool:
        own = [length for group in groups for length in lengths[group]]
        parts = list(by_length(own, most))
        return _padded(own, parts) <= limit and (len(parts) == 1 or not one_batch)

    windows: list[list[int]] = []
    for group in sorted(range(len(lengths)), key=lambda group: (-max(lengths[group]), group)):
        if not fit([group]):
            return None
        if windows and fit([*windows[-1], group]):
            windows[-1].append(group)
        else:
            windows.append([group])
    return windows


def _padded(lengths: Sequence[int], parts: Sequence[Sequence[int]]) -> int:
    return sum(len(part) * lengths[part[0]] for part in parts)


def _some(
    rows: Sequence[int], prompt_ids: Sequence[Sequence[int]], response_ids: Sequence[Sequence[int]]
) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    return [prompt_ids[row] for row in rows], [response_ids[row] for row in rows]


def _moved(line: Line, by: int) -> Line:
    return line._replace(rows=[row + by for row in line.rows])
