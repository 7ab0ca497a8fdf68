"""Token log-probabilities and entropies of given responses under a causal language model.

Axis letters: R rows of the caller, B rows of one micro-batch, L positions of prompt and response, T positions of the
response, N response tokens of a micro-batch laid end to end, V vocabulary, D hidden size.

No [B, L, V] array exists: the head is applied to the hidden states that predict response tokens, a chunk at a time,
and each chunk's logits are computed again in the backward pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.utils.checkpoint import checkpoint

from sharpen.llm.models.finite import require_finite
from sharpen.llm.models.shared_prefix import (
    SMALLEST,
    Line,
    SharedBatch,
    by_length,
    lines_of,
    prefix_is_shareable,
    response_mask,
    saves,
    sees,
    shared_batches,
)
from sharpen.llm.models.vocabulary import statistics
from sharpen.llm.models.weights import compute_device

# Most logits of one chunk: 2^26 float32 numbers are 256 MiB.
CHUNK_LOGITS = 2**26
SHARDED_FORWARD = "sharpen_token_statistics"

SharePrompts = Literal["auto", "always", "never"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Rows of prompt and response tokens, right-padded.

    Args:
        rows: Place of each row in the caller's lists, B of them.
        tokens_BL: Prompt, response, padding.
        prompt_length_B: Prompt tokens of each row, at least 1.
        response_length_B: Response tokens of each row.
    """

    rows: list[int]
    tokens_BL: torch.Tensor
    prompt_length_B: torch.Tensor
    response_length_B: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """True at the response's tokens, [B, T] with T the longest response here."""
        return response_mask(self.response_length_B)

    def places(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return row, predicting position and token of each response token, shapes [N]."""
        row_N, offset_N = self.mask.nonzero(as_tuple=True)
        target_N = self.prompt_length_B[row_N] + offset_N
        return row_N, target_N - 1, self.tokens_BL[row_N, target_N]

    def spread(self, values_N: torch.Tensor) -> torch.Tensor:
        """Return the value of each response token, shape [N]: here, of each of :meth:`places`."""
        return values_N

    def layout(self, model: Any) -> dict[str, torch.Tensor]:
        """Return what a model has to be told beside the tokens: nothing, padding stands where nobody looks."""
        return {}

    def to(self, device: Any) -> Batch:
        """Return the batch on another device."""
        arrays = (self.tokens_BL, self.prompt_length_B, self.response_length_B)
        return Batch(self.rows, *(array.to(device) for array in arrays))


class TokenLogprobs(NamedTuple):
    """What a model says about given responses.

    Args:
        logprobs_BT: Log-probability (nats) of each response token given what stands before it, float32 (float64 for
            a float64 model); 0 outside the mask.
        entropy_BT: Entropy (nats) of the distribution each response token was drawn from, without gradient; 0 outside
            the mask. None unless asked for.
        mask_BT: True at response tokens.
    """

    logprobs_BT: torch.Tensor
    entropy_BT: torch.Tensor | None
    mask_BT: torch.Tensor


def make_batches(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    micro_batch_tokens: int,
    pad_id: int = 0,
    device: Any = "cpu",
) -> list[Batch]:
    """Return the rows as micro-batches of neighbours in length, longest first, each row in exactly one.

    Args:
        prompt_ids: R prompts, none empty.
        response_ids: R responses.
        micro_batch_tokens: Most positions of a micro-batch, padding included; a longer row has one to itself.
        pad_id: Any token of the vocabulary; nothing reads what the model says there.
        device: Where to put the batches.

    Raises:
        ValueError: the numbers of prompts and responses differ, or a prompt is empty.
    """
    if len(prompt_ids) != len(response_ids):
        raise ValueError(f"response_ids: got {len(response_ids)} rows, allowed: {len(prompt_ids)}, as many as prompts")
    if not all(len(prompt) for prompt in prompt_ids):
        raise ValueError("prompt_ids: got an empty prompt, allowed: at least one token, which predicts the next")
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompt_ids, response_ids, strict=True)]
    batches = []
    for rows in by_length(lengths, micro_batch_tokens):
        tokens_BL = torch.full((len(rows), lengths[rows[0]]), pad_id, dtype=torch.long)
        for place, row in enumerate(rows):
            tokens_BL[place, : lengths[row]] = torch.tensor([*prompt_ids[row], *response_ids[row]])
        prompt_length_B = torch.tensor([len(prompt_ids[row]) for row in rows])
        response_length_B = torch.tensor([len(response_ids[row]) for row in rows])
        batches.append(Batch(rows, tokens_BL, prompt_length_B, response_length_B).to(device))
    return batches


def batches_for(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    micro_batch_tokens: int,
    share_prompts: SharePrompts = "auto",
) -> Sequence[Batch | SharedBatch]:
    """Return the rows as micro-batches on the model's device, a prompt once for all its responses or once for each.

    ``auto`` shares prompts where that saves a tenth of the work or more (``shared_prefix.saves``) in a model of ten
    million parameters or more. A model that cannot (``shared_prefix.prefix_is_shareable``), or whose window is shorter
    than a row, gets a row for each response whatever is asked for. Arguments and errors as of :func:`make_batches`.
    """
    rows: dict[str, Any] = {"micro_batch_tokens": micro_batch_tokens}
    lines = lines_for(model, prompt_ids, response_ids, **rows, share_prompts=share_prompts)
    if lines is not None:
        return shared_batches(lines, **rows, device=compute_device(model))
    return make_batches(prompt_ids, response_ids, **rows, device=compute_device(model))


def lines_for(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    micro_batch_tokens: int,
    share_prompts: SharePrompts,
) -> list[Line] | None:
    """Return the rows as lines that share prompts; None where each response has a row. See :func:`batches_for`."""
    if share_prompts == "never" or (share_prompts == "auto" and _parameters(model) < SMALLEST):
        return None
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompt_ids, response_ids, strict=False)]
    if not (lengths and all(prompt_ids) and len(lengths) == len(prompt_ids) == len(response_ids)):
        return None  # make_batches will tell
    options = {"micro_batch_tokens": micro_batch_tokens, "hidden": model.config.get_text_config().hidden_size}
    lines = lines_of(prompt_ids, response_ids, **options)
    wanted = share_prompts == "always" or saves(lines, lengths, **options)
    return lines if wanted and max(lengths) <= sees(model.config) and prefix_is_shareable(model) else None


def _parameters(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


def response_logprobs(
    model: Any,
    batch: Batch | SharedBatch,
    *,
    with_entropy: bool = False,
    temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
) -> TokenLogprobs:
    """Return log softmax(logits / temperature) at the response tokens of one micro-batch, differentiable.

    The softmax is taken in float32 whatever the model's dtype (in float64 for a float64 model). Gradients follow
    torch's current mode. Padding needs no mask: it stands to the right, where a causal model does not look.

    Args:
        model: A causal language model of transformers.
        batch: On the model's device.
        with_entropy: Also return the entropies.
        temperature: What the logits are divided by; above 0.
        chunk_logits: Most logits that are held at a time.
    """
    mask_BT = batch.mask
    chunk = max(1, chunk_logits // _vocabulary(model))
    forward = getattr(model, SHARDED_FORWARD, None) or partial(token_statistics, model)
    options: dict[str, Any] = {"temperature": temperature, "with_entropy": with_entropy, "chunk": chunk}
    options |= batch.layout(model)
    found = forward(batch.tokens_BL, *batch.places(), **options)
    logprob_N, entropy_N = (batch.spread(values) for values in found)
    blank_BT = logprob_N.new_zeros(mask_BT.shape)
    entropy_BT = blank_BT.masked_scatter(mask_BT, entropy_N.detach()) if with_entropy else None
    return TokenLogprobs(blank_BT.masked_scatter(mask_BT, logprob_N), entropy_BT, mask_BT)


def token_statistics(
    model: Any,
    tokens_BL: torch.Tensor,
    row_N: torch.Tensor,
    position_N: torch.Tensor,
    token_N: torch.Tensor,
    *,
    temperature: float,
    with_entropy: bool,
    chunk: int,
    **layout: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probability and entropy of N tokens, each predicted at one position of one row, shapes [N].

    Everything that touches the model's weights is in here, so that a sharded model can gather them around it
    (:mod:`sharpen.llm.distributed.sharding` makes it a method of the model, of the name :data:`SHARDED_FORWARD`).

    Args:
        model: A causal language model of transformers.
        tokens_BL: Right-padded rows.
        row_N: Row of each token.
        position_N: Position that predicts it.
        token_N: The token.
        temperature: What the logits are divided by.
        with_entropy: Without it the entropies are zeros.
        chunk: Most tokens whose logits are held at a time.
        layout: Positions and attention mask where they are not those of right-padded rows.
    """
    head, features_ND = _head_and_features(model, tokens_BL, row_N, position_N, layout)

    def of_features(features_KD: torch.Tensor, token_K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return statistics(head(features_KD), token_K, temperature, with_entropy)

    parts = []
    for features_KD, token_K in zip(features_ND.split(chunk), token_N.split(chunk), strict=True):
        if torch.is_grad_enabled() and len(token_N) > chunk:
            # Without it the logits of every chunk would live until the backward pass.
            parts.append(checkpoint(of_features, features_KD, token_K, use_reentrant=False))
        else:
            parts.append(of_features(features_KD, token_K))
    logprob_N, entropy_N = (torch.cat(column) for column in zip(*parts, strict=True))
    return logprob_N, entropy_N


def token_logprobs(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    *,
    micro_batch_tokens: int,
    with_entropy: bool = False,
    temperature: float = 1.0,
    same_passes: Callable[[int], int] = lambda count: count,
    graph_tokens: int = 0,
    share_prompts: SharePrompts = "auto",
    batches: Sequence[Batch | SharedBatch] | None = None,
) -> TokenLogprobs:
    """Return the log-probabilities of all R rows, in the caller's order and padded to the longest response.

    On the model's device; the model stays in its train or eval mode. There are no gradients, unless all micro-batches
    together have at most ``graph_tokens`` positions: then the graphs of all of them live until the backward pass. A
    trainer of larger batches calls :func:`response_logprobs` on each of :func:`batches_for`, so that only one
    micro-batch's graph lives at a time.

    Processes with a sharded model have to make equally many forward passes: ``same_passes`` returns their largest
    number, and passes beyond this process's own are repeated and thrown away. ``batches`` are the rows as microbatches
    where they have been made.

    Raises:
        NonFiniteError: the model gives a response a probability that is no number.
    """
    options: dict[str, Any] = {"micro_batch_tokens": micro_batch_tokens, "share_prompts": share_prompts}
    batches = batches_for(model, prompt_ids, response_ids, **options) if batches is None else batches
    passes = same_passes(len(batches))  # asked before the first pass, or one process asks while another gathers weights
    with torch.set_grad_enabled(sum(batch.tokens_BL.numel() for batch in batches) <= graph_tokens):
        parts = [
            response_logprobs(model, batch, with_entropy=with_entropy, temperature=temperature) for batch in batches
        ]
        for _ in range(passes - len(batches)):
            response_logprobs(model, batches[-1])
    entropies = [part.entropy_BT for part in parts if part.entropy_BT is not None]
    logprobs_RT = unbatch(batches, [part.logprobs_BT for part in parts])
    require_finite("log-probabilities", logprobs_RT.detach(), f"responses under {type(model).__name__}")
    return TokenLogprobs(
        logprobs_RT,
        unbatch(batches, entropies) if with_entropy else None,
        unbatch(batches, [part.mask_BT for part in parts]),
    )


def unbatch(batches: Sequence[Batch | SharedBatch], arrays_BT: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return one array [R, T] of the micro-batches' arrays [B, T], rows in the caller's order, zeros as padding."""
    arrays = list(arrays_BT)
    rows = [row for batch in batches for row in batch.rows]
    out_RT = arrays[0].new_zeros(len(rows), max(array.shape[1] for array in arrays))
    for batch, array in zip(batches, arrays, strict=True):
        out_RT[batch.rows, : array.shape[1]] = array
    return out_RT


def _head_and_features(
    model: Any,
    tokens_BL: torch.Tensor,
    row_N: torch.Tensor,
    position_N: torch.Tensor,
    layout: Mapping[str, torch.Tensor],
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """Return a map from features to logits, and the features at the N given positions."""
    if head_is_separable(model):
        hidden_BLD = model.get_decoder()(input_ids=tokens_BL, use_cache=False, **layout).last_hidden_state
        return model.get_output_embeddings(), hidden_BLD[row_N, position_N]
    return torch.nn.Identity(), model(input_ids=tokens_BL, use_cache=False, **layout).logits[row_N, position_N]


_separable: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def head_is_separable(model: Any) -> bool:
    """Whether logits = head(decoder(tokens)), bit by bit; tried once for each model.

    It is not so where the model scales or caps its logits, or where a wrapper has to see every forward pass (its
    module then has no decoder of its own). The full logits are used there, which costs memory only.
    """
    if model not in _separable:
        _separable[model] = _try_head(model)
        if not _separable[model]:
            log.warning("%s: its head cannot be applied on its own, so all logits are kept", type(model).__name__)
    return _separable[model]


def _try_head(model: Any) -> bool:
    if not (hasattr(model, "get_decoder") and hasattr(model, "get_output_embeddings")):
        return False
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if decoder is None or decoder is model or head is None or hasattr(head.weight, "full_tensor"):
        return False  # sharded already: its weight (DTensor) is gathered only in the whole model's forward pass
    tokens = torch.arange(min(8, _vocabulary(model)), device=head.weight.device)[None]
    training = model.training
    model.eval()  # dropout would differ between the two passes
    with torch.no_grad():
        whole = model(input_ids=tokens, use_cache=False).logits
        apart = head(decoder(input_ids=tokens, use_cache=False).last_hidden_state)
    model.train(training)
    return torch.equal(whole, apart)


def _vocabulary(model: Any) -> int:
    return model.config.get_text_config().vocab_size
