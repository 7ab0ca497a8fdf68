"""What an evaluation keeps of each problem: one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpen.llm.common import jsonl


@dataclass(frozen=True)
class Record:
    """One problem's n samples.

    Args:
        id: The problem's.
        subject: Its subject, where the data set names one.
        level: Its difficulty, where the data set names one.
        responses: Texts.
        votes: Final answers as they are counted in a vote, one text for all of the same value; None without one.
        correct: Whether the verifier takes each for the gold answer.
        lengths: Response tokens, end-of-sequence included.
        finished: False where a response was cut at the length limit.
        logprob: log pi(x) at temperature 1, nats a sequence; None if not measured, as below.
        entropy: Sum over the response's tokens of the next-token entropy of pi, nats.
        base_logprob: log p(x) under the base model, nats a sequence.
    """

    id: str
    subject: str | None
    level: str | None
    responses: list[str]
    votes: list[str | None]
    correct: list[bool]
    lengths: list[int]
    finished: list[bool]
    logprob: list[float] | None = None
    entropy: list[float] | None = None
    base_logprob: list[float] | None = None

    @property
    def classes(self) -> list[str | None]:
        """What each sample votes for: right and wrong answers are united by the same rule, their value.

        Where the verifier takes two answers for the same and only one of them for the gold answer, they are two
        votes: a class that is both right and wrong could not be scored.
        """
        return [
            None if vote is None and not good else f"{'right' if good else 'wrong'}: {vote}"
            for good, vote in zip(self.correct, self.votes, strict=True)
        ]


def append(file: Path, records: Sequence[Record]) -> None:
    """Append records and make them durable, see `sharpen.llm.common.jsonl.append`."""
    jsonl.append(file, records)


def read(file: Path) -> list[Record]:
    """Return the records of a file, see `sharpen.llm.common.jsonl.read`."""
    return jsonl.read(file, Record)
