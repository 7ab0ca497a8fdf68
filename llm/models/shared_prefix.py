"""Rows that begin alike, computed once: the samples of a prompt share it, and equal beginnings of responses too.

A line holds a prompt and, behind it, the tree of its responses: every beginning that occurs has one place. A place sees
its ancestors in the tree and itself, by an explicit attention mask, and stands at the position that it has in its row.
So each token has the context that it has in a row of its own, and the same log-probabilities and gradients up to
rounding (``tests/llm/models/test_shared_prefix.py``).

Axis letters: S lines, L places of a line, B responses, T positions of a response, N response tokens, U places of
response tokens, that is distinct pairs of a context and the token that follows it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

# A forward pass costs about 2 (12 hidden^2) a token and layer outside attention, and 4 hidden for each place seen.
LINEAR_PER_SEEN = 6
SAVED = 0.1  # share of the passes' work that sharing has to save, or rows stay apart
SMALLEST = 10**7  # parameters; below, laying out the tree takes what it saves (docs/llm.md)

log = logging.getLogger(__name__)


def by_length(lengths: Sequence[int], micro_batch_tokens: int) -> Iterator[list[int]]:
    """Yield the places of the lengths in parts of neighbours in length, longest first, each place in exactly one.

    Args:
        lengths: Positions of each row or line.
        micro_batch_tokens: Most positions of a part, padding included; a longer one has a part to itself.

    Example:
        >>> list(by_length([3, 9, 4, 3], 9))
        [[1], [2, 0], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    while order:
        count = max(1, micro_batch_tokens // lengths[order[0]])
        part, order = order[:count], order[count:]
        yield part


def response_mask(response_length_B: torch.Tensor) -> torch.Tensor:
    """Return True at the responses' tokens, shape [B, T] with T the longest response."""
    longest = int(response_length_B.max())
    return torch.arange(longest, device=response_length_B.device) < response_length_B[:, None]


class Line(NamedTuple):
    """One prompt with some of its responses.

    Args:
        tokens: The prompt's, then those of the tree's places, each after its ancestors.
        positions: Of each place in the rows it stands for.
        last: Last place below each place, itself if it ends every row it is in.
        rows: The caller's rows.
        places: Of each row, the place of each response token.
        parents: The place before each place; it predicts it.
        prompt_length: Tokens of the prompt, at least 1.
    """

    tokens: list[int]
    positions: list[int]
    last: list[int]
    rows: list[int]
    places: list[list[int]]
    parents: list[int]
    prompt_length: int


@dataclass(frozen=True)
class SharedBatch:
    """Lines of prompts and responses, right-padded; the same questions as to ``logprobs.Batch``.

    Args:
        rows: Place of each response in the caller's lists, B of them.
        tokens_BL: Lines, shape [S, L].
        position_SL: Position of each place in its rows.
        last_SL: Last place below each place.
        response_length_B: Response tokens of each row.
        line_U: Line of each distinct response token.
        predicts_U: The place that predicts it.
        token_U: The token.
        entry_N: Which of the U each response token is, rows one after another.
    """

    rows: list[int]
    tokens_BL: torch.Tensor
    position_SL: torch.Tensor
    last_SL: torch.Tensor
    response_length_B: torch.Tensor
    line_U: torch.Tensor
    predicts_U: torch.Tensor
    token_U: torch.Tensor
    entry_N: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """True at the response's tokens, [B, T] with T the longest response here."""
        return response_mask(self.response_length_B)

    def places(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return line, predicting place and token of each distinct response token, shapes [U]."""
        return self.line_U, self.predicts_U, self.token_U

    def spread(self, values_U: torch.Tensor) -> torch.Tensor:
        """Return the value of each response token, shape [N], of those of the distinct ones."""
        return values_U[self.entry_N]

    def layout(self, model: Any) -> dict[str, torch.Tensor]:
        """Return what a model has to be told about the lines beside their tokens: positions and attention mask."""
        return {"position_ids": self.position_SL, "attention_mask": attention_mask(self.last_SL, model)}

    def to(self, device: Any) -> SharedBatch:
        """Return the batch on another device."""
        arrays = (self.tokens_BL, self.position_SL, self.last_SL, self.response_length_B)
        arrays += (self.line_U, self.predicts_U, self.token_U, self.entry_N)
        return SharedBatch(self.rows, *(array.to(device) for array in arrays))


def attention_mask(last_SL: torch.Tensor, model: Any) -> torch.Tensor:
    """Return which places each place sees, shape [S, 1, L, L]: its ancestors and itself.

    Places stand in the order in which a walk through the tree meets them, so that k is above q, or q itself, exactly
    where k <= q <= last[k]. Numbers to be added to the attention's logits, once for all layers; truth values where the
    dtype of the passes is not that of the weights (sharded models).
    """
    place_L = torch.arange(last_SL.shape[1], device=last_SL.device)
    seen_SLL = (place_L <= place_L[:, None]) & (place_L[:, None] <= last_SL[:, None, :])
    weight = model.get_input_embeddings().weight
    if hasattr(weight, "full_tensor"):
        return seen_SLL[:, None]
    blocked = torch.finfo(weight.dtype).min
    return torch.zeros_like(seen_SLL, dtype=weight.dtype).masked_fill_(~seen_SLL, blocked)[:, None]


def lines_of(
    prompt_ids: Sequence[Sequence[int]], response_ids: Sequence[Sequence[int]], *, micro_batch_tokens: int, hidden: int
) -> list[Line]:
    """Return the rows as lines, each row in exactly one.

    So many responses share a line that it costs least: k of them, of T tokens after P of the prompt, take P + k T
    places that each see up to all of these, (P / k + T) (c + P + k T) for each response with c = 6 hidden what a place
    costs beside attention. The least is at k = (P / T) sqrt(1 + c / P).

    Args:
        prompt_ids: R prompts, none empty.
        response_ids: R responses.
        micro_batch_tokens: Most places of a line of more than one response.
        hidden: The model's hidden size.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompt_ids):
        groups.setdefault(tuple(prompt), []).append(row)
    lines = []
    for prompt, rows in groups.items():
        rows.sort(key=lambda row: (tuple(response_ids[row]), row))  # equal beginnings next to each other
        P, T = len(prompt), max(1.0, sum(len(response_ids[row]) for row in rows) / len(rows))
        best = P / T * math.sqrt(1 + LINEAR_PER_SEEN * hidden / P)
        most = math.ceil(len(rows) / max(1, round(len(rows) / max(1.0, best))))
        own: list[int] = []
        for row in rows:
            length = P + sum(len(response_ids[other]) for other in (*own, row))
            if own and (len(own) == most or length > micro_batch_tokens):
                lines.append(_line(prompt, own, response_ids))
                own = []
            own.append(row)
        lines.append(_line(prompt, own, response_ids))
    return lines


def _line(prompt: Sequence[int], rows: list[int], response_ids: Sequence[Sequence[int]]) -> Line:
    """Lay out the tree of the rows' responses; rows with equal beginnings are neighbours."""
    P = len(prompt)
    tokens, positions, parents = [*prompt], list(range(P)), list(range(-1, P - 1))
    places: list[list[int]] = []
    path: list[int] = []
    before: Sequence[int] = ()
    for row in rows:
        response = response_ids[row]
        shared = next((t for t, (a, b) in enumerate(zip(before, response, strict=False)) if a != b), None)
        shared = min(len(before), len(response)) if shared is None else shared
        first = len(tokens)
        path = path[:shared] + list(range(first, first + len(response) - shared))
        parents += [path[t - 1] if t else P - 1 for t in range(shared, len(response))]
        tokens += response[shared:]
        positions += range(P + shared, P + len(response))
        places.append(path)
        before = response
    last = list(range(len(tokens)))
    for place in range(len(tokens) - 1, 0, -1):
        last[parents[place]] = max(last[parents[place]], last[place])
    return Line(tokens, positions, last, rows, places, parents, P)


def shared_batches(lines: Sequence[Line], *, micro_batch_tokens: int, device: Any = "cpu") -> list[SharedBatch]:
    """Return the lines as micro-batches of neighbours in length, longest first.

    Args:
        lines: As of :func:`lines_of`.
        micro_batch_tokens: Most places of a micro-batch, padding included; a longer line has one to itself.
        device: Where to put the batches.
    """
    parts = by_length([len(line.tokens) for line in lines], micro_batch_tokens)
    return [_batch([lines[place] for place in part]).to(device) for part in parts]


def _batch(lines: list[Line]) -> SharedBatch:
    width = max(len(line.tokens) for line in lines)
    tokens_SL = torch.zeros(len(lines), width, dtype=torch.long)
    position_SL = torch.zeros_like(tokens_SL)
    last_SL = torch.arange(width).repeat(len(lines), 1)  # padding sees itself, or its softmax would be of nothing
    distinct: list[torch.Tensor] = []
    entries: list[torch.Tensor] = []
    first = 0
    for place, line in enumerate(lines):
        own, P = len(line.tokens), line.prompt_length
        tokens_SL[place, :own], position_SL[place, :own] = torch.tensor(line.tokens), torch.tensor(line.positions)
        last_SL[place, :own] = torch.tensor(line.last)
        distinct.append(torch.tensor([[place] * (own - P), line.parents[P:], line.tokens[P:]], dtype=torch.long))
        entries += [torch.tensor(row, dtype=torch.long) - P + first for row in line.places]
        first += own - P
    line_U, predicts_U, token_U = torch.cat(distinct, dim=1)
    rows = [row for line in lines for row in line.rows]
    response_length_B = torch.tensor([len(row) for line in lines for row in line.places])
    places = (line_U, predicts_U, token_U, torch.cat(entries))
    return SharedBatch(rows, tokens_SL, position_SL, last_SL, response_length_B, *places)


def saves(lines: Sequence[Line], lengths: Sequence[int], *, micro_batch_tokens: int, hidden: int) -> bool:
    """Return whether lines cost at least the share :data:`SAVED` less than rows, padding included.

    Args:
        lines: The rows as lines.
        lengths: Prompt and response of each row.
        micro_batch_tokens: As of the batches.
        hidden: The model's hidden size.
    """
    apart = _cost(lengths, micro_batch_tokens, 2 * LINEAR_PER_SEEN * hidden)  # causal: half of the places are seen
    together = _cost([len(line.tokens) for line in lines], micro_batch_tokens, LINEAR_PER_SEEN * hidden)
    return together <= (1 - SAVED) * apart


def _cost(lengths: Sequence[int], micro_batch_tokens: int, linear: int) -> float:
    parts = ((len(part), lengths[part[0]]) for part in by_length(lengths, micro_batch_tokens))
    return sum((count * width * (1 + width / linear) for count, width in parts), start=0.0)


def sees(config: Any) -> float:
    """Return how many places a model sees at most: a sliding window's or chunk's length, else infinity.

    An explicit mask replaces the one that has the window in it, so longer rows are not shared.
    """
    text = config.get_text_config()
    slides = getattr(text, "use_sliding_window", True)
    window = getattr(text, "sliding_window", None) if slides else None
    found = [length for length in (window, getattr(text, "attention_chunk_size", None)) if length]
    return min(found, default=math.inf)


_shareable: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def prefix_is_shareable(model: Any) -> bool:
    """Whether a model computes lines as it computes rows, up to rounding; tried once for each model.

    It does not where its layers keep a state instead of looking back (recurrent and convolutional ones), where its
    attention takes no explicit mask, or where it takes no positions.
    """
    if model not in _shareable:
        _shareable[model] = _try_sharing(model)
        if not _shareable[model]:
            log.warning("%s: does not compute a prompt once for its samples; each has its own", type(model).__name__)
    return _shareable[model]


def _try_sharing(model: Any) -> bool:
    try:
        weight = model.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):
        return False
    if hasattr(weight, "full_tensor"):
        return False  # sharded already: tried before that, or not at all
    some = [(7 * place + 3) % len(weight) for place in range(9)]
    prompt, responses = some[:4], [some[4:7], some[7:]]
    (batch,) = shared_batches([_line(prompt, [0, 1], responses)], micro_batch_tokens=1, device=weight.device)
    rows = [[*prompt, *response] for response in responses]
    training = model.training
    model.eval()  # dropout would differ between the passes
    try:
        with torch.no_grad():
            shared = model(input_ids=batch.tokens_BL, use_cache=False, **batch.layout(model)).logits[0, 4:]
            apart = [_logits(model, row, weight.device)[4:] for row in rows]
            wrong = _logits(model, some, weight.device)[7:]  # the second response after the first
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError):
        return False
    finally:
        model.train(training)
    error = (shared - torch.cat(apart)).double().abs()
    # Also a model in float64 takes its softmax in float32 where its attention is not torch's own.
    eps = max(torch.finfo(weight.dtype).eps, torch.finfo(torch.float32).eps)
    rounding = math.sqrt(eps) * float(torch.cat(apart).double().abs().max())
    # Much nearer to the row of its own than where the mask is not looked at.
    return float(error.max()) <= rounding and 10 * float(error.mean()) <= float(
        (wrong - apart[1]).double().abs().mean()
    )


def _logits(model: Any, row: list[int], device: Any) -> torch.Tensor:
    return model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0]
