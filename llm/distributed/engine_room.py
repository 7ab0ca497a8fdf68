"""What vLLM is given of a GPU on which a trainer lies too: rows at a time, bytes of KV cache, and who makes room.

The cache is what the batch needs with every response at full length, so that no row ever waits for memory; less where
the GPU has less. Where all rows fit only without AdamW's moments, these lie in the machine's memory while vLLM samples
(:mod:`sharpen.llm.training.offload`). The dry run prints these numbers, and a run gives the same ones to vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass

# Not counted by any formula: CUDA's context, NCCL's buffers, vLLM's captured graphs, what allocators cannot join.
# An allowance and not a measurement.
RESERVE = 3 * 2**30
MOST_ROWS = 1024  # more gain little: a decode step of this size is bound by arithmetic (docs/scale.md)
BLOCK = 16  # tokens; vLLM's cache is taken by so many
READ_TOKENS = 8192  # of prompts that vLLM reads at a time


@dataclass(frozen=True)
class EngineRoom:
    """What an engine gets.

    Args:
        rows: Sampled at a time, all processes of one engine together; 0 if not even one fits.
        kv_cache: Bytes on each GPU.
        work: Bytes of logits and of what a prompt is read in.
        offload: Whether the optimizer's state has to leave the GPU while it samples.
    """

    rows: int
    kv_cache: int
    work: int
    offload: bool


def engine_room(
    *,
    rows: int,
    row: int,
    vocabulary: int,
    read: int,
    room: int | None = None,
    movable: int = 0,
    most: int | None = None,
    offload: bool | None = None,
) -> EngineRoom:
    """Return what an engine gets that is to sample ``rows`` rows.

    Args:
        rows: Of all processes that hold it.
        row: Bytes of one row's keys and values at full length on each GPU.
        vocabulary: Tokens of it.
        read: Bytes a token while a prompt is read.
        room: Bytes that are free beside trainer and engine weights; None: no bound.
        movable: Bytes of the optimizer's state, which may leave.
        most: Bytes that cache and work may take whatever is free; None: no bound.
        offload: Whether it leaves; None: where the rows do not fit otherwise.

    Example:
        >>> found = engine_room(rows=256, row=75 * 2**20, vocabulary=151936, read=2**16, room=14 * 2**30)
        >>> found.rows, round(found.kv_cache / 2**30, 1)
        (180, 13.2)
        >>> engine_room(rows=256, row=75 * 2**20, vocabulary=151936, read=2**16, room=2**33, movable=2**35).offload
        True
    """
    wanted = min(rows, MOST_ROWS)
    each = row + 12 * vocabulary  # logits in float32, their softmax and the noise
    fixed = read * READ_TOKENS

    def fitting(free: int | None) -> int:
        bounds = [bound for bound in (free, most) if bound is not None]
        return wanted if not bounds else max(0, min(wanted, (min(bounds) - fixed) // each))

    stays = fitting(room)
    leaves = fitting(None if room is None else room + movable)
    moved = (leaves > stays) if offload is None else offload
    found = leaves if moved else stays
    return EngineRoom(found, found * row, found * 12 * vocabulary + fixed, moved)
