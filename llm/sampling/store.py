"""What a sampling run keeps of each prompt: one JSON object per line; and what its tokens bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpen.llm.common import jsonl


@dataclass(frozen=True)
class Drawn:
    """One prompt's responses and what they cost; every list has one entry per response.

    Args:
        id: The prompt's.
        responses: Texts, without special tokens.
        lengths: Tokens, end-of-sequence included.
        finished: False where a response was cut at the length limit.
        logprob: log p(x) of the model that is sharpened, at temperature 1, nats.
        generated: Tokens drawn from the model on the way to the response, those thrown away included.
        proposals: Metropolis-Hastings steps, candidates or rollouts.
        accepted: Proposals accepted; 1 for a method without acceptance.
        moved: Accepted proposals that changed the response.
        log_z: log of an unbiased estimate of Z = sum p^alpha, nats; None for a method that has none.
        effective: Effective sample size of what a response was chosen from; None for a method that has none.
    """

    id: str
    responses: list[str]
    lengths: list[int]
    finished: list[bool]
    logprob: list[float]
    generated: list[int]
    proposals: list[int]
    accepted: list[int]
    moved: list[int]
    log_z: list[float] | None = None
    effective: list[float] | None = None


def append(file: Path, drawn: Sequence[Drawn]) -> None:
    """Append prompts and make them durable, see `sharpen.llm.common.jsonl.append`."""
    jsonl.append(file, drawn)


def read(file: Path) -> list[Drawn]:
    """Return the prompts of a file, see `sharpen.llm.common.jsonl.read`; a missing file has none."""
    return jsonl.read(file, Drawn) if file.exists() else []


def cost(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Return what the responses cost.

    Returns:
        ``generated_tokens`` (all that the model drew), ``returned_tokens`` (those of the responses),
        ``tokens_per_response`` (generated, a response), ``overhead`` (generated over returned; 1 is plain sampling),
        ``proposals``, ``acceptance`` and ``moved`` (shares of the proposals), ``tokens_per_accepted`` (generated tokens
        over accepted proposals).
    """
    total = {
        name: sum(sum(getattr(one, name)) for one in drawn)
        for name in ("lengths", "generated", "proposals", "accepted", "moved")
    }
    responses = sum(len(one.responses) for one in drawn)
    proposals, accepted = total["proposals"], total["accepted"]
    return {
        "generated_tokens": total["generated"],
        "returned_tokens": total["lengths"],
        "tokens_per_response": total["generated"] / responses,
        "overhead": total["generated"] / total["lengths"],
        "proposals": proposals,
        "acceptance": accepted / proposals if proposals else None,
        "moved": total["moved"] / proposals if proposals else None,
        "tokens_per_accepted": total["generated"] / accepted if accepted else None,
    }
