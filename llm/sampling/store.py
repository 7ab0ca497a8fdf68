"""What a sampling run keeps of each prompt: one JSON object a line; and what its tokens bought."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sharpen.objective import InputError


@dataclass(frozen=True)
class Drawn:
    """One prompt's responses and what they cost; every list has one entry a response.

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


_NAMES = [field.name for field in fields(Drawn)]


def line(drawn: Drawn) -> str:
    """Return a prompt's line of ``samples.jsonl``."""
    return json.dumps(asdict(drawn), allow_nan=False) + "\n"


def append(file: Path, drawn: Sequence[Drawn]) -> None:
    """Append lines and make them durable: a later kill, or a crash of the machine, keeps them."""
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(map(line, drawn))
        stream.flush()
        os.fsync(stream.fileno())


def read(file: Path) -> list[Drawn]:
    """Return the prompts of a file; a torn last line, left by a kill, is left out. A missing file has none.

    Raises:
        InputError: another line is not of this kind; the message has the line.
    """
    if not file.exists():
        return []
    return [_parsed(text, f"{file}:{number}") for number, text in enumerate(file.read_bytes().split(b"\n")[:-1], 1)]


def _parsed(text: bytes, place: str) -> Drawn:
    try:
        given = json.loads(text)
        if not (isinstance(given, dict) and sorted(given) == sorted(_NAMES)):
            raise ValueError("other fields")
        drawn = Drawn(**given)
        columns = [getattr(drawn, name) for name in _NAMES[1:]]
        if not drawn.responses or any(len(column) != len(drawn.responses) for column in columns):
            raise ValueError("columns of different lengths")
    except (ValueError, TypeError) as error:
        raise InputError("samples", place, f"one prompt of a sampling run a line ({error})") from error
    return drawn


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
